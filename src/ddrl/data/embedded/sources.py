"""Captioned media in memory, and their disjoint uses: the data of an embedded task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.seeding import permutation


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
        """The caption of every file."""
        return tuple(self.captions[i] for i in self.caption_id.tolist())

    def head(self, per_caption: int) -> CaptionedMedia:
        """Return the first ``per_caption`` files of every caption."""
        rows = [
            (self.caption_id == i).nonzero().flatten()[:per_caption]
            for i in range(len(self.captions))
        ]
        return self.select(torch.cat(rows))


@dataclass(frozen=True)
class Splits:
    """Disjoint uses of the data of an embedded task; all have the same captions.

    Attributes:
        train: what models are trained on and anchored to.
        heldout: what nothing is ever trained on.
        reward: what networks of rewards are trained on.
        judge: what the judge is trained on, none of it in ``reward``.
    """

    train: CaptionedMedia
    heldout: CaptionedMedia
    reward: CaptionedMedia
    judge: CaptionedMedia

    @classmethod
    def cut(cls, everything: CaptionedMedia, num_train: int, *, name: str) -> Splits:
        """Cut media at random, always in the same way; reward and judge halve what is trained on.

        Args:
            everything: all of them.
            num_train: how many are trained on.
            name: of the cut; another name gives another one.
        """
        order = permutation(len(everything), 0, name)
        train, half = order[:num_train], num_train // 2
        return cls(
            train=everything.select(train),
            heldout=everything.select(order[num_train:]),
            reward=everything.select(train[:half]),
            judge=everything.select(train[half:]),
        )
