"""The embedded words: the same every time, kept apart, as their captions say, and legible."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from ddrl.data.embedded.words import (
    BACKGROUNDS,
    COLOURS,
    FONTS,
    SIZE,
    WORDS,
    DrawnWords,
    draw_letters,
    draw_words,
    word_captions,
    word_splits,
)
from ddrl.records import Prompts
from ddrl.rewards.builtin.ocr import OcrReward, quoted

NAMES = ("train", "heldout", "reward", "judge")


@cache
def drawn(name: str) -> DrawnWords:
    return draw_words(name)


def test_captions_ask_for_a_word_and_a_colour() -> None:
    captions = word_captions()
    assert len(set(captions)) == len(captions) == 64
    assert captions[0] == 'the word "lamp" in red'
    assert {quoted(text) for text in captions} == set(WORDS)
    assert {text.split()[-1] for text in captions} == set(COLOURS)
    assert len({quoted(text) for text in captions[:32]}) == 32
    assert {3, 4, 5} == {len(word) for word in WORDS}


def test_splits_hold_every_caption_and_are_pixels() -> None:
    splits = word_splits()
    assert [len(getattr(splits, name)) for name in NAMES] == [5120, 512, 512, 1536]
    for name in NAMES:
        data = getattr(splits, name)
        assert data.media.shape == (len(data), 3, *SIZE)
        assert data.captions == word_captions()
        assert 0 <= float(data.media.min()) <= float(data.media.max()) <= 1
        counts = torch.bincount(data.caption_id)
        assert len(counts) == 64
        assert bool((counts == counts[0]).all())


@pytest.mark.parametrize("name", ["heldout", "reward"])
def test_the_same_every_time(name: str) -> None:
    again = draw_words(name)
    assert torch.equal(again.data.media, drawn(name).data.media)
    assert torch.equal(again.font, drawn(name).font)


def test_no_picture_is_in_two_splits() -> None:
    seen: set[bytes] = set()
    for name in ("heldout", "reward", "judge"):
        pictures = {picture.numpy().tobytes() for picture in drawn(name).data.media}
        assert len(pictures) == len(drawn(name).data)
        assert not seen & pictures
        seen |= pictures


def test_styles_are_free() -> None:
    found = drawn("judge")
    assert set(found.font.tolist()) == set(range(len(FONTS)))
    assert set(found.background.tolist()) == set(range(len(BACKGROUNDS)))
    one_prompt = found.data.caption_id == 5
    assert len(set(found.font[one_prompt].tolist())) > 3
    assert len(set(found.background[one_prompt].tolist())) == 4


def test_letters_have_the_asked_colour_and_stand_out() -> None:
    found = drawn("heldout")
    plain = found.background == BACKGROUNDS.index("plain")
    media, colour = found.data.media[plain], found.colour[plain]
    back = media[:, :, 0, 0]
    away = (media - back[:, :, None, None]).square().sum(1).flatten(1)
    at = away.argmax(1)
    front = media.flatten(2)[torch.arange(len(media)), :, at]
    wanted = torch.tensor(list(COLOURS.values()))[colour]
    assert float((front - wanted).abs().max()) < 0.15
    assert float((front.mean(1) - back.mean(1)).abs().min()) > 0.2


def test_letters_stand_in_the_middle() -> None:
    found = drawn("heldout")
    rows = [
        i
        for i, word in enumerate(found.word)
        if len(word) == 3 and BACKGROUNDS[int(found.background[i])] == "plain"
    ]
    for picture in found.data.media[rows]:
        ink = (picture - picture[:, :1, :1]).abs().sum(0).amax(0)
        columns = (ink > 0.05).nonzero().flatten()
        assert 20 <= int(columns.min()) < 40
        assert 56 <= int(columns.max()) < 76


def test_a_real_engine_reads_them() -> None:
    data = drawn("heldout").data.select(torch.arange(0, 512, 11))
    texts = data.texts()
    prompts = Prompts(torch.arange(len(texts)), texts, tuple({} for _ in texts))
    reader = OcrReward(threads=1)
    assert float(reader.score(data.media, prompts).mean()) >= 0.9
    wrong = prompts.select([*range(1, len(texts)), 0])
    assert float(reader.score(data.media, wrong).mean()) < 0.3


def test_random_letters_are_no_words() -> None:
    found = draw_letters(40)
    assert len(found.data) == 40
    assert len(set(found.word) & set(WORDS)) == 0
    assert {len(word) for word in found.word} == {3, 4, 5}
    assert [quoted(text) for text in found.data.texts()] == list(found.word)
    assert torch.equal(draw_letters(40).data.media, found.data.media)
