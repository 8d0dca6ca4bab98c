"""The embedded digits: four uses, never mixed up, the same on every machine."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from ddrl.data.embedded import digits
from ddrl.data.embedded.digits import DIGIT_NAMES, digit_splits
from ddrl.data.embedded.sources import CaptionedMedia, Splits

# Of the pixels (in sixteenths) and digits of each split. Base models and classifiers are cached
# and numbers are published under these splits: a change here makes them all void.
HASHES = {
    "train": "79e1342b8d82ced1",
    "heldout": "d23da8e0f74ff84a",
    "reward": "0504ebd64212801f",
    "judge": "748e4b66dcd08988",
}


def test_they_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, digit = load_digits(return_X_y=True)
    read = digits._table()
    assert (read == np.column_stack((pixels, digit))).all()
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)  # it lies elsewhere
    assert (digits._table() == read).all()


@cache
def splits() -> Splits:
    return digit_splits()


def content(media: CaptionedMedia) -> list[bytes]:
    """One image per entry, exactly."""
    sixteenths = (media.media * 16).round().to(torch.uint8)
    return [image.contiguous().numpy().tobytes() for image in sixteenths]


@pytest.mark.parametrize("name", HASHES)
def test_the_splits_are_pinned(name: str) -> None:
    media: CaptionedMedia = getattr(splits(), name)
    digest = hashlib.sha256(b"".join(content(media)) + bytes(media.caption_id.tolist()))
    assert digest.hexdigest()[:16] == HASHES[name]


def test_sizes_and_pixels() -> None:
    sizes = [len(getattr(splits(), name)) for name in HASHES]
    assert sizes == [1200, 597, 600, 600]
    for name in HASHES:
        media: CaptionedMedia = getattr(splits(), name)
        assert media.media.shape == (len(media), 3, 8, 8)
        assert media.media.dtype == torch.float32
        assert (float(media.media.min()), float(media.media.max())) == (0, 1)
        assert torch.equal(media.media[:, 0], media.media[:, 2])
        assert media.captions == DIGIT_NAMES


def test_the_splits_are_disjoint() -> None:
    train, heldout = set(content(splits().train)), set(content(splits().heldout))
    reward, judge = set(content(splits().reward)), set(content(splits().judge))
    assert len(train) == 1200  # no image twice, so that sets compare what they should
    assert len(heldout) == 597
    assert not train & heldout
    assert not reward & judge
    assert reward | judge == train


@pytest.mark.parametrize("name", HASHES)
def test_every_digit_is_in_every_split(name: str) -> None:
    counts = torch.bincount(getattr(splits(), name).caption_id, minlength=10)
    assert int(counts.min()) > 0.07 * int(counts.sum())


def test_captions_fit_their_images() -> None:
    """A zero has a hole in its middle, where a one is darkest."""
    train = splits().train
    middle = train.media[:, 0, 2:6, 3:5].mean((1, 2))
    zero, one = (middle[train.caption_id == DIGIT_NAMES.index(name)] for name in ("zero", "one"))
    assert float(zero.mean()) < 0.3 < 0.6 < float(one.mean())
