"""Captioned media in memory."""

from __future__ import annotations

import torch

from ddrl.data.sources import CaptionedMedia

MEDIA = CaptionedMedia(
    torch.arange(6.0)[:, None, None, None].expand(-1, 3, 2, 2),
    torch.tensor([1, 0, 1, 2, 1, 0]),
    ("a", "b", "c"),
)


def first_pixels(media: CaptionedMedia) -> list[float]:
    values: list[float] = media.media[:, 0, 0, 0].tolist()
    return values


def test_texts_are_the_captions() -> None:
    assert MEDIA.texts() == ("b", "a", "b", "c", "b", "a")
    assert len(MEDIA) == 6


def test_select_keeps_captions_with_their_files() -> None:
    some = MEDIA.select(torch.tensor([3, 0]))
    assert first_pixels(some) == [3, 0]
    assert some.texts() == ("c", "b")
    assert some.captions == MEDIA.captions


def test_head_takes_the_first_of_every_caption() -> None:
    assert first_pixels(MEDIA.head(2)) == [1, 5, 0, 2, 3]
    assert MEDIA.head(1).texts() == ("a", "b", "c")
