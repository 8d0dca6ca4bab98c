"""Captioned media in memory, the form that every data source ends in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CaptionedMedia:
    """N media files with their captions.

    Attributes:
        media: pixels in [0, 1], shape (N, 3, H, W), or (N, T, 3, H, W) for clips.
        caption_id: per file, its caption's position in ``captions``, int64, shape (N,).
        captions: the distinct captions: the prompts.
    """

    media: Tensor
    caption_id: Tensor
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.media)

    def select(self, index: Tensor) -> CaptionedMedia:
        """Return the files at ``index``; captions keep their positions."""
        return CaptionedMedia(self.media[index], self.caption_id[index], self.captions)

    def texts(self) -> tuple[str, ...]:
        """Return the caption of every file."""
        return tuple(self.captions[i] for i in self.caption_id.tolist())

    def head(self, per_caption: int) -> CaptionedMedia:
        """Return the first ``per_caption`` files of every caption."""
        rows = [
            (self.caption_id == i).nonzero().flatten()[:per_caption]
            for i in range(len(self.captions))
        ]
        return self.select(torch.cat(rows))
