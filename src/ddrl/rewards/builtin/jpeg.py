"""The size of the picture as a JPEG file: a reward without a model, and easily gamed."""

from __future__ import annotations

import io
from typing import ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frames import as_bytes, sample_frames


class JpegReward:
    """The size of the JPEG file in kB (1000 bytes), negative for ``compressible``.

    Args:
        prefer: small files (``compressible``) or large ones (``incompressible``).
        quality: quality of the JPEG, 1 to 95.
        frames: how many frames of a clip are averaged.
    """

    card: ClassVar[RewardCard] = RewardCard(
        rewards="pictures that JPEG packs small, or large",
        range="kB: at most 0 for compressible, at least 0 for incompressible",
        prompt="none",
        hacks="it asks for nothing else: a flat colour is best, or noise. Made to show what a "
        "regularizer does, not to train on",
        cost="CPU only, one JPEG per frame",
    )

    def __init__(
        self,
        *,
        prefer: Literal["compressible", "incompressible"] = "compressible",
        quality: int = 95,
        frames: int = 4,
    ) -> None:
        if not 1 <= quality <= 95 or frames < 1:
            raise ValueError("quality must be from 1 to 95, frames at least 1")
        self._sign = -1 if prefer == "compressible" else 1
        self._quality, self._frames = quality, frames

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:  # noqa: ARG002
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,); NaN where a pixel is not finite."""
        frames = sample_frames(media, self._frames)
        size = [[self._kilobytes(frame) for frame in clip] for clip in as_bytes(frames).unbind()]
        finite = frames.flatten(1).isfinite().all(1).cpu()
        return torch.where(finite, self._sign * torch.tensor(size).mean(1), torch.nan)

    def _kilobytes(self, frame: Tensor) -> float:
        file = io.BytesIO()
        Image.fromarray(frame.numpy()).save(file, format="JPEG", quality=self._quality)
        return file.tell() / 1000
