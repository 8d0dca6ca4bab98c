"""Motion by registration: which shift brings the frames of a clip together, and how well.

It judges what :mod:`ddrl.rewards.builtin.embedded.motion` rewards, by another method: pixels have
to match, not only their centre.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def fit_motions(media: Tensor, velocities: Sequence[tuple[float, float]]) -> Tensor:
    """Measure how well each of M motions explains each clip.

    The first frame is moved along with a velocity and correlated with every later frame.

    Args:
        media: clips in [0, 1], shape (B, T, 3, H, W), T at least 2.
        velocities: pixels per frame in (x, y), y downwards.

    Returns:
        The mean correlation, in [-1, 1], shape (B, M); 0 where a frame has no contrast.
    """
    grey = media.float().mean(2)
    later = _standardized(grey[:, 1:])
    columns = []
    for x, y in velocities:
        moved = torch.stack(
            [shift(grey[:, 0], (x * t, y * t)) for t in range(1, grey.shape[1])], dim=1
        )
        columns.append((_standardized(moved) * later).sum((2, 3)).mean(1))
    return torch.stack(columns, dim=1)


def shift(images: Tensor, by: tuple[float, float]) -> Tensor:
    """Move images (B, H, W) by (x, y) pixels, interpolated linearly; black comes in."""
    height, width = images.shape[1:]
    return _matrix(height, by[1]).to(images) @ images @ _matrix(width, by[0]).to(images).T


def _matrix(length: int, by: float) -> Tensor:
    places = torch.arange(length)
    return F.relu(1 - (places[:, None] - places - by).abs())


def _standardized(frames: Tensor) -> Tensor:
    """Bring pixels to mean 0 and norm 1; 0 where there is no contrast."""
    centred = frames - frames.mean((2, 3), keepdim=True)
    norm = centred.square().sum((2, 3), keepdim=True).sqrt()
    return torch.where(norm > 1e-4, centred / norm.clamp_min(1e-4), 0.0)
