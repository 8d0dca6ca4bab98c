"""What samples and data are compared in: features of a named encoder, statistics of pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddrl.builders.data.corpus import Real
from ddrl.evaluation.measures.encoder import Encoder, load_vision_encoder
from ddrl.evaluation.measures.pixels import pixel_statistics
from ddrl.training.rollout import rows_by_size

DECODED_AT_ONCE = 8  # a clip of 81 frames of 832x480 pixels takes 388 MB


@dataclass(frozen=True)
class RealData:
    """What samples are compared with: M real pictures or clips.

    Attributes:
        features: of the encoder, (M, F).
        frames: of every frame, (M, T, F); None for images.
        pixels: name -> (M,), statistics of pixels.
        prompt_id: (M,) the prompt of each.
    """

    features: NDArray[np.float64]
    frames: NDArray[np.float64] | None
    pixels: Mapping[str, NDArray[np.float64]]
    prompt_id: NDArray[np.int64]


def build_encoder(
    name: str, of_judge: Callable[[Tensor], Tensor] | None, device: torch.device
) -> Encoder:
    """The encoder of ``evaluation.encoder``.

    Args:
        name: ``auto``, or a folder or hub id of a vision model.
        of_judge: features (B, F) of media by the judge, which ``auto`` takes;
            None: there is none.
        device: where a vision model runs.

    Raises:
        UsageError: transformers isn't installed.
        WeightsError: the model can't be loaded.
    """
    if name != "auto":
        return load_vision_encoder(name, device=device)
    if of_judge is None:
        return Encoder("pooled pixels (4 x 4 colours)", pooled_pixels)

    def features(media: Tensor) -> NDArray[np.float64]:
        values: NDArray[np.float64] = of_judge(media).double().numpy()
        return values

    return Encoder("the judge's last hidden layer", features)


def pooled_pixels(media: Tensor) -> NDArray[np.float64]:
    """Colours on a grid of 4x4: (N, 3, H, W) to (N, 48)."""
    pooled = torch.nn.functional.adaptive_avg_pool2d(media.float(), 4)
    values: NDArray[np.float64] = pooled.flatten(1).double().numpy()
    return values


def same_length(frames: Sequence[NDArray[np.float64] | None]) -> list[NDArray[np.float64]]:
    """Features of frames (N_i, T, F) where all parts are clips of one length; else none."""
    found = [part for part in frames if part is not None]
    is_one = len(found) == len(frames) and len({part.shape[1] for part in found}) == 1
    return found if is_one else []


def real_data(encoder: Encoder, real: Real) -> RealData:
    """Measure real media, of which those in files are decoded a few at a time."""
    size = len(real) if isinstance(real.media, Tensor) else DECODED_AT_ONCE
    size_id = torch.zeros(len(real), dtype=torch.int64) if real.size_id is None else real.size_id
    features, seen = [], []
    frames: list[NDArray[np.float64] | None] = []
    pixels: dict[str, list[NDArray[np.float64]]] = {}
    for rows in rows_by_size(size_id, size):
        seen.append(rows)
        media = real.media[rows]
        of_clips = encoder.frames(media) if media.ndim == 5 else None
        frames.append(of_clips)
        features.append(encoder.features(media) if of_clips is None else of_clips.mean(1))
        for name, values in pixel_statistics(media).items():
            pixels.setdefault(name, []).append(values)
    order, lasting = torch.cat(seen).argsort().numpy(), same_length(frames)
    return RealData(
        features=np.concatenate(features)[order],
        frames=np.concatenate(lasting)[order] if lasting else None,
        pixels={name: np.concatenate(parts)[order] for name, parts in pixels.items()},
        prompt_id=real.caption_id.numpy(),
    )
