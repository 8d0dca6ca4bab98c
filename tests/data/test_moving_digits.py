"""The embedded clips: kept apart, the same every time, and moving as their captions say."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from ddrl.data.embedded.digits import DIGIT_NAMES, digit_splits
from ddrl.data.embedded.moving_digits import (
    DIRECTIONS,
    MOTIONS,
    frames_by_digit,
    moving_captions,
    moving_digit_splits,
    speeds,
)
from ddrl.data.embedded.sources import CaptionedMedia, Splits
from ddrl.errors import DataError

NAMES = ("train", "heldout", "reward", "judge")


@cache
def splits() -> Splits:
    return moving_digit_splits()


def test_sizes_and_pixels() -> None:
    assert [len(getattr(splits(), name)) for name in NAMES] == [4800, 597, 1200, 1200]
    for name in NAMES:
        clips: CaptionedMedia = getattr(splits(), name)
        assert clips.media.shape == (len(clips), 8, 3, 12, 12)
        assert float(clips.media.min()) == 0
        assert 0.9 < float(clips.media.max()) <= 1
        assert torch.equal(clips.media[:, :, 0], clips.media[:, :, 2])


def test_the_same_every_time() -> None:
    again = moving_digit_splits()
    for name in NAMES:
        assert torch.equal(getattr(again, name).media, getattr(splits(), name).media)
        assert torch.equal(getattr(again, name).caption_id, getattr(splits(), name).caption_id)


def test_a_split_shows_its_own_scans() -> None:
    """The scans of the splits are apart (tests/data/test_digits.py), so the clips are."""
    clips, stills = splits(), digit_splits()
    for name in NAMES:
        grey = getattr(clips, name).media[:, :, 0]
        scan = getattr(stills, name).media[:, 0]
        # Interpolation keeps sums along what moves: of rows or of columns.
        scan = scan.repeat(len(grey) // len(scan), 1, 1)
        sums = [grey.sum(axis).sort(2).values[:, :, -8:] for axis in (3, 2)]
        wanted = [scan.sum(axis).sort(1).values[:, None] for axis in (2, 1)]
        errors = [(a - b).abs().amax((1, 2)) for a, b in zip(sums, wanted, strict=True)]
        assert float(torch.minimum(*errors).max()) < 1e-4


def test_captions_are_the_grammar() -> None:
    captions = moving_captions()
    assert len(set(captions)) == 80
    assert captions[3] == "a three moving right quickly"
    assert "an eight moving left slowly" in captions
    for caption in captions:
        article, digit, verb, direction, speed = caption.split()
        assert article == ("an" if digit == "eight" else "a")
        assert verb == "moving"
        assert digit in DIGIT_NAMES
        assert (direction, speed) in MOTIONS
    firsts = [caption.split() for caption in captions[:10]]
    assert len({words[1] for words in firsts}) == 10
    assert len({words[3] for words in firsts}) == 4


@pytest.mark.parametrize("name", NAMES)
def test_every_caption_is_in_every_split(name: str) -> None:
    counts = torch.bincount(getattr(splits(), name).caption_id, minlength=80)
    assert int(counts.min()) > 0.7 * len(getattr(splits(), name)) / 80
    assert splits().train.captions == getattr(splits(), name).captions


@pytest.mark.parametrize(("size", "frames"), [((12, 12), 8), ((16, 12), 5), ((16, 16), 16)])
def test_the_digit_is_the_caption_s_and_moves_as_it_says(
    size: tuple[int, int], frames: int
) -> None:
    clips = moving_digit_splits(size=size, frames=frames).heldout
    known = speeds(size, frames)
    digits = [DIGIT_NAMES[i] for i in digit_splits().heldout.caption_id.tolist()]
    for row, text in enumerate(clips.texts()):
        words = text.split()
        assert words[1] == digits[row]
        asked = torch.tensor(DIRECTIONS[words[3]]) * known[words[4]]
        grey = clips.media[row, :, 0]
        ink = grey.sum((1, 2))
        x = (grey.sum(1) @ torch.arange(size[1], dtype=torch.float32)) / ink
        y = (grey.sum(2) @ torch.arange(size[0], dtype=torch.float32)) / ink
        steps = torch.stack([x, y], dim=1).diff(dim=0)
        torch.testing.assert_close(steps, asked.expand_as(steps), rtol=1e-3, atol=1e-3)


def test_frames_keep_their_digit() -> None:
    frames = frames_by_digit(splits().heldout)
    assert frames.media.shape == (597 * 8, 3, 12, 12)
    assert frames.captions == DIGIT_NAMES
    assert torch.equal(frames.caption_id[::8], digit_splits().heldout.caption_id)


@pytest.mark.parametrize(("size", "frames"), [((8, 12), 8), ((12, 12), 1)])
def test_sizes_without_motion(size: tuple[int, int], frames: int) -> None:
    with pytest.raises(DataError, match="can't move") as caught:
        moving_digit_splits(size=size, frames=frames)
    assert "more than 8 pixels" in caught.value.hint


def test_the_middle_of_a_path_is_the_middle_of_the_picture() -> None:
    """On average over a clip each row and column of a scan is where it would be standing still."""
    clips, stills = splits().heldout, digit_splits().heldout
    scan = stills.media[:, 0].repeat(len(clips) // len(stills), 1, 1)
    for place in range(0, len(clips), 100):
        ink = clips.media[place, :, 0].double()
        centre = [
            float((ink.sum(axis) * torch.arange(12)).sum() / ink.sum()) for axis in ((0, 2), (0, 1))
        ]
        mine = scan[place].double()
        wanted = [
            2 + float((mine.sum(axis) * torch.arange(8)).sum() / mine.sum()) for axis in (1, 0)
        ]
        assert centre == pytest.approx(wanted, abs=1e-5)
