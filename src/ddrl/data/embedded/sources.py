"""Captioned media in memory, and their disjoint uses: the data of an embedded task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.errors import DataError
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
        """Return the caption of every file."""
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


def check_splits(splits: object, name: str, *, given: int = 0) -> None:
    """Refuse data that no model could be trained on.

    Args:
        splits: what should be :class:`Splits`.
        name: of the data, in an error.
        given: first frames of each clip that the model is given.

    Raises:
        DataError: they are none; media are no pixels in [0, 1] or of several sizes; captions don't
            fit; or no frame is left to generate.
    """
    if not isinstance(splits, Splits):
        raise DataError(
            f"{name}.make_splits gives a {type(splits).__name__}.",
            hint="return a Splits, as Splits.cut(CaptionedMedia(...), num_train, name=...)",
        )
    shape = tuple(splits.train.media.shape)
    for part, data in vars(splits).items():
        media, ids = data.media, data.caption_id
        fits = media.ndim in (4, 5) and media.shape[-3] == 3 and len(media) > 0
        if not fits or media.dtype != torch.float32 or media.shape[1:] != shape[1:]:
            raise DataError(
                f"{name} has media of shape {tuple(media.shape)} and type {media.dtype} in {part}.",
                hint="give float32 pixels of one size: (N, 3, height, width), or "
                "(N, frames, 3, height, width) of clips",
            )
        low, high = (float(end) for end in media.aminmax())
        if not 0 <= low <= high <= 1:
            raise DataError(
                f"{name} has pixels from {low:.3g} to {high:.3g} in {part}.",
                hint="scale them to [0, 1]",
            )
        is_known = len(ids) == len(media) and ids.dtype == torch.int64
        if not is_known or not 0 <= int(ids.min()) <= int(ids.max()) < len(data.captions):
            raise DataError(
                f"{name} has a caption_id in {part} that is no position in its captions for every "
                "medium.",
                hint="give an int64 tensor with a position in captions for each medium",
            )
        if data.captions != splits.train.captions:
            raise DataError(
                f"{name} has other captions in {part} than in train.",
                hint="give all parts the same captions, as Splits.cut does",
            )
    frames = shape[1] if len(shape) == 5 else 1
    if given and given >= frames:
        raise DataError(
            f"data.given_frames is {given}, but {name} has media of {frames} frames.",
            hint="set data.given_frames to fewer frames, or to 0",
        )
