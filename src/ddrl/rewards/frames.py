"""What rewards share in front of their models: frames, bytes, batches, the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ddrl.errors import RewardError

OverFrames = Literal["mean", "max"]
Precision = Literal["float32", "bfloat16", "float16"]


def sample_frames(media: Tensor, count: int) -> Tensor:
    """Take frames of a clip, evenly from the first to the last; a single one from the middle.

    Args:
        media: pixels in [0, 1], shape (B, 3, H, W), or (B, T, 3, H, W) for video.
        count: how many; all of them if the clip has fewer.

    Returns:
        Shape (B, F, 3, H, W); F is 1 for images.

    Raises:
        RewardError: the media has another shape.
    """
    if media.ndim not in (4, 5) or media.shape[-3] != 3:
        raise RewardError(
            f"Media has the shape {tuple(media.shape)}, not (B, 3, H, W) or (B, T, 3, H, W).",
            hint="rewards score RGB pixels in [0, 1]",
        )
    if media.ndim == 4:
        return media[:, None]
    length = media.shape[1]
    if count == 1:
        return media[:, length // 2, None]
    index = torch.linspace(0, length - 1, min(count, length)).round().long()
    return media[:, index.to(media.device)]


def reduce_frames(value: Tensor, how: OverFrames) -> Tensor:
    """Reduce values of frames, shape (B, F), to values of samples, shape (B,)."""
    return value.mean(1) if how == "mean" else value.amax(1)


def batches(length: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size`` that cover ``range(length)`` in order."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def as_levels(pixels: Tensor) -> Tensor:
    """Turn pixels in [0, 1] of any shape into whole levels from 0 to 255, float32."""
    return (255 * pixels.detach().float()).round().clamp(0, 255)


def as_bytes(frames: Tensor) -> Tensor:
    """Turn pixels in [0, 1], shape (..., 3, H, W), into uint8 on the CPU, shape (..., H, W, 3)."""
    return as_levels(frames).to(torch.uint8).movedim(-3, -1).cpu().contiguous()


def pick_device(name: str) -> torch.device:
    """Return the device of a reward: the one named, else CUDA if there is one, else the CPU.

    Raises:
        RewardError: there is no such device.
    """
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RewardError(
            f"There is no device {name!r} for the reward.", hint='for example "cuda:1" or "cpu"'
        ) from error
    return device


@dataclass(frozen=True)
class Runtime:
    """Where and how a network runs.

    Attributes:
        device: where its weights are.
        dtype: the type of its weights and passes.
        batch_size: how many pictures or texts it takes per pass.
    """

    device: torch.device
    dtype: torch.dtype
    batch_size: int

    @classmethod
    def of(cls, device: str, precision: Precision | Literal["auto"], batch_size: int) -> Runtime:
        """Read the options of a reward; ``auto`` is bfloat16 on CUDA and float32 elsewhere.

        Raises:
            RewardError: there is no such device.
        """
        place = pick_device(device)
        if precision == "auto":
            precision = "bfloat16" if place.type == "cuda" else "float32"
        return cls(place, getattr(torch, precision), batch_size)

    def slices(self, length: int) -> list[slice]:
        """Return the slices of ``range(length)`` that are one pass each, in order."""
        return list(batches(length, self.batch_size))
