"""Cheap statistics of pixels: they catch hacks that learned judges miss.

A reward that falls for saturated, dark, blown-out or busy pictures is fooled in ways that a mean
over pixels shows at once. Luma is Y = 0.2126 R + 0.7152 G + 0.0722 B (ITU-R BT.709) of the pixel
values as they are, without linearising them. A clip's statistics are means over its frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddrl.errors import DataError

DARK, BRIGHT = 0.1, 0.9
EDGE = 0.1
LEVELS = 8
"""Each channel is cut into this many equal parts for the colour entropy: 512 colours."""
_LUMA = (0.2126, 0.7152, 0.0722)
_FLOOR = 0.01  # of a statistic's range: data without any spread must not divide by 0


def brightness(media: Tensor) -> Tensor:
    """Mean luma, in [0, 1].

    Args:
        media: pixels in [0, 1], shape (B, 3, H, W) or (B, T, 3, H, W).

    Returns:
        Shape (B,), float32.

    Raises:
        DataError: media of another shape.
    """
    return _per_sample(_luma(media).mean((-2, -1)), media)


def contrast(media: Tensor) -> Tensor:
    """Standard deviation of luma over the pixels of a picture, in [0, 0.5]. Arguments as above."""
    return _per_sample(_luma(media).flatten(-2).std(-1, correction=0), media)


def saturation(media: Tensor) -> Tensor:
    """Mean of max(R, G, B) - min(R, G, B), in [0, 1].

    This is HSV's saturation times its value: the saturation alone would make noise in black
    pixels count as full colour. Arguments as for :func:`brightness`.
    """
    frames = _frames(media)
    return _per_sample((frames.amax(1) - frames.amin(1)).mean((-2, -1)), media)


def edge_density(media: Tensor) -> Tensor:
    """Share of pixels where luma has a gradient above 0.1 per pixel, in [0, 1].

    The gradient is sqrt(dx^2 + dy^2) of differences to the right and lower neighbour, at the
    (H - 1)(W - 1) pixels that have both; 0 for media one pixel high or wide.
    """
    luma = _luma(media)
    across = luma[:, :-1, 1:] - luma[:, :-1, :-1]
    down = luma[:, 1:, :-1] - luma[:, :-1, :-1]
    edges = (torch.hypot(across, down) > EDGE).float()
    return _per_sample(edges.flatten(1).sum(1) / max(1, edges[0].numel()), media)


def colour_entropy(media: Tensor) -> Tensor:
    """Shannon entropy of a picture's colours, in bits, in [0, min(9, log2(H W))].

    Colours are counted in 8 x 8 x 8 equal boxes of the RGB cube. One flat colour is 0.
    """
    frames = _frames(media)
    level = (frames * LEVELS).long().clamp(0, LEVELS - 1)
    box = ((level[:, 0] * LEVELS + level[:, 1]) * LEVELS + level[:, 2]).flatten(1)
    counts = torch.zeros(len(box), LEVELS**3, dtype=torch.float64, device=box.device)
    counts.scatter_add_(1, box, torch.ones_like(box, dtype=torch.float64))
    return _per_sample(torch.special.entr(counts / box.shape[1]).sum(1) / np.log(2), media)


def dark_fraction(media: Tensor) -> Tensor:
    """Share of pixels with luma below 0.1, in [0, 1]. Arguments as for :func:`brightness`."""
    return _per_sample((_luma(media) < DARK).float().mean((-2, -1)), media)


def bright_fraction(media: Tensor) -> Tensor:
    """Share of pixels with luma above 0.9, in [0, 1]. Arguments as for :func:`brightness`."""
    return _per_sample((_luma(media) > BRIGHT).float().mean((-2, -1)), media)


STATISTICS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "brightness": brightness,
        "contrast": contrast,
        "saturation": saturation,
        "edge_density": edge_density,
        "colour_entropy": colour_entropy,
        "dark_fraction": dark_fraction,
        "bright_fraction": bright_fraction,
    }
)
"""Every statistic by name, in the order of the report."""

RANGES: Mapping[str, float] = MappingProxyType(
    {**dict.fromkeys(STATISTICS, 1.0), "contrast": 0.5, "colour_entropy": 9.0}
)
"""The largest value that each statistic can take; the smallest is 0."""


def pixel_statistics(media: Tensor) -> dict[str, NDArray[np.float64]]:
    """Return all statistics of B samples.

    Args:
        media: pixels, shape (B, 3, H, W) or (B, T, 3, H, W); values outside of [0, 1] are cut.

    Returns:
        Name -> shape (B,), in the order of :data:`STATISTICS`.

    Raises:
        DataError: media of another shape.
    """
    cut = media.float().clamp(0, 1)
    return {name: measure(cut).double().cpu().numpy() for name, measure in STATISTICS.items()}


def standardised_difference(
    values: NDArray[np.float64], data: NDArray[np.float64], *, largest: float = 1.0
) -> float:
    """Return how far samples are from data in one statistic: (mean - mean of data) / std of data.

    Args:
        values: (N,) the statistic of the samples.
        data: (M,) of real data.
        largest: the statistic's range. The std is taken as at least 1 % of it, so that data
            without spread (grey pictures have no saturation) gives a large number, not infinity.

    Returns:
        The difference in standard deviations of the data.
    """
    mean, spread = centre_and_spread(data, largest=largest)
    return (float(values.mean()) - mean) / spread


def centre_and_spread(data: NDArray[np.float64], *, largest: float = 1.0) -> tuple[float, float]:
    """Mean and std of a statistic of data, the std as :func:`standardised_difference` takes it."""
    return float(data.mean()), max(float(data.std()), _FLOOR * largest)


def _frames(media: Tensor) -> Tensor:
    """Return the pictures of images or clips, shape (B or B T, 3, H, W)."""
    if media.ndim not in (4, 5) or media.shape[-3] != 3 or media.numel() == 0:
        raise DataError(
            f"The media have shape {tuple(media.shape)}, not (samples, 3, height, width) or "
            "(samples, frames, 3, height, width)."
        )
    return media.float().flatten(0, 1) if media.ndim == 5 else media.float()


def _luma(media: Tensor) -> Tensor:
    frames = _frames(media)
    weights = torch.tensor(_LUMA, device=frames.device)
    return (frames * weights[:, None, None]).sum(1)


def _per_sample(values: Tensor, media: Tensor) -> Tensor:
    """Means over the frames of clips: (B T,) -> (B,)."""
    values = values.float()
    return values.reshape(media.shape[:2]).mean(1) if media.ndim == 5 else values
