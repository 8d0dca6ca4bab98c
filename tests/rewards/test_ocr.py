"""The OCR reward reads rendered words, and only those that are there."""

from __future__ import annotations

import logging
import socket
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rewards.rendering import WORDS, on_page, prompts, render
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.rewards.base import Reward, SampleError, make_reward
from ddrl.rewards.builtin.ocr import OcrReward, quoted, similarity
from ddrl.rewards.card import RewardCard

SIZE = 24


@cache
def ocr(**options: Any) -> Reward:
    return make_reward("ocr", options)


def asking(words: list[str]) -> Any:
    return prompts(*(f'a sign that says "{word}"' for word in words))


def means(words: list[str]) -> dict[str, float]:
    """Mean score of pictures with the words, blurred ones, and ones without anything."""
    asked = asking(words)
    pictures = {
        "readable": torch.stack([render(word) for word in words]),
        "blurred": torch.stack([render(word, blur=8) for word in words]),
        "white": torch.ones(len(words), 3, 32, 96),
        "black": torch.zeros(len(words), 3, 32, 96),
        "noise": torch.rand((len(words), 3, 32, 96), generator=torch.Generator().manual_seed(0)),
    }
    return {name: float(ocr().score(media, asked).mean()) for name, media in pictures.items()}


def test_readable_words_score_high_and_nothing_else_does() -> None:
    found = means(WORDS[::9][:SIZE])
    assert found.pop("readable") >= 0.9
    assert max(found.values()) <= 0.2, found


def test_what_was_read_is_given_for_each_frame() -> None:
    frames = torch.stack([render("lamp"), torch.ones(3, 32, 96), render("star"), render("ring")])
    assert OcrReward().read(frames.reshape(2, 2, 3, 32, 96)) == [["lamp", ""], ["star", "ring"]]


@pytest.mark.slow
def test_two_hundred_words() -> None:
    assert len(set(WORDS)) == 200
    found = means(WORDS)
    print({name: round(value, 4) for name, value in found.items()})  # noqa: T201 - for the report
    assert found.pop("readable") >= 0.9
    assert max(found.values()) <= 0.2, found


@pytest.mark.slow
def test_fifteen_pictures_a_second_on_one_core() -> None:
    """In seconds of the processor, so that what else runs here does not count."""
    media = torch.stack([render(word) for word in WORDS])
    asked = asking(WORDS)
    reader = OcrReward(threads=1)
    reader.score(media[:16], asked.select(range(16)))
    start = time.process_time()
    reader.score(media, asked)
    rate = len(WORDS) / (time.process_time() - start)
    print(f"{rate:.1f} pictures of 32 x 96 a second")  # noqa: T201 - for the report
    assert rate >= 15


def test_the_wrong_word_scores_by_its_letters() -> None:
    media = torch.stack([render("house")] * 3)
    value = ocr().score(media, asking(["house", "mouse", "kitty"]))
    torch.testing.assert_close(value, torch.tensor([1.0, 0.8, 0.0]))


def test_text_beyond_what_is_asked_for() -> None:
    media = render("open daily", width=192)[None]
    asked = prompts('"open"')
    whole, contains = (float(ocr(match=m).score(media, asked)[0]) for m in ("whole", "contains"))
    assert whole == pytest.approx(4 / 9)
    assert contains == 1


def test_case_and_spaces_count_where_they_are_asked_to() -> None:
    media = render("Open Now", width=192)[None]
    asked = prompts('"openNOW"')
    assert float(ocr().score(media, asked)[0]) == 1
    assert float(ocr(case=True, spaces=True).score(media, asked)[0]) < 0.7


def test_a_page_is_searched_for_its_lines() -> None:
    page = on_page("garden")
    page[:, 20:44] = on_page("summer")[:, 64:88]
    asked = prompts('"summer" above "garden"')
    assert float(ocr().score(page[None], asked)[0]) == 1
    assert float(ocr(detect=False).score(page[None], asked)[0]) < 0.5
    assert float(ocr().score(torch.ones(1, 3, 128, 128), asked)[0]) == 0
    line = render("garden")[None]
    assert float(ocr(detect=True).score(line, prompts('"garden"'))[0]) == 1


def test_what_is_read_without_confidence_is_not_there() -> None:
    """No reading is quite certain, of a line as it is or of one that was found on a page."""
    media = {"line": render("garden")[None], "page": on_page("garden")[None]}
    for picture in media.values():
        assert float(ocr().score(picture, prompts('"garden"'))[0]) == 1
        assert float(ocr(confidence=1.0).score(picture, prompts('"garden"'))[0]) == 0


def test_frames_of_a_clip() -> None:
    blank = torch.ones(3, 32, 96)
    clip = torch.stack([render("night"), blank, blank, render("night")])[None]
    asked = prompts("'night'")
    assert float(ocr().score(clip, asked)[0]) == 0.5
    assert float(ocr(over_frames="max").score(clip, asked)[0]) == 1
    assert float(ocr(frames=2).score(clip, asked)[0]) == 1
    assert float(ocr(frames=1).score(clip, asked)[0]) == 0


def test_a_prompt_without_quotation_marks_fails_alone() -> None:
    media = torch.stack([render("door")] * 3)
    with pytest.raises(SampleError, match=r"1 of 3 samples .* sample 1: .* no text in") as caught:
        ocr().score(media, prompts('"door"', "a door", '"boat"'))
    assert list(caught.value.causes) == [1]
    assert float(caught.value.value[0]) == 1
    assert caught.value.value.isnan().tolist() == [False, True, False]
    assert 'text = "prompt"' in caught.value.hint
    assert float(ocr(text="prompt").score(media[:1], prompts("door"))[0]) == 1


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ('a sign that says "OPEN late"', "OPEN late"),
        ("a sign “OPEN”, and below it “24 h”", "OPEN 24 h"),
        ("a cup with 'best dad' on it", "best dad"),
        ("the dog's bowl says 'it isn't mine'", "it isn't mine"),
        ("a card ‘thanks’", "thanks"),  # noqa: RUF001
        ("the dog's bowl isn't here", ""),
        ('the dog\'s bowl says "Rex"', "Rex"),
        ('an "unfinished quote', ""),
        ('nothing in "" at all', ""),
        ('blank "  " here', ""),
    ],
)
def test_the_text_in_quotation_marks(prompt: str, expected: str) -> None:
    assert quoted(prompt) == expected


def levenshtein(a: str, b: str) -> int:
    """By its definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        levenshtein(a[1:], b) + 1,
        levenshtein(a, b[1:]) + 1,
        levenshtein(a[1:], b[1:]) + (a[0] != b[0]),
    )


letters = st.text("abc", max_size=4)


@settings(deadline=None)
@given(wanted=letters, found=letters)
def test_similarity_is_its_definition(wanted: str, found: str) -> None:
    longest = max(len(wanted), len(found))
    whole = 1 - levenshtein(wanted, found) / longest if longest else 1.0
    assert similarity(wanted, found) == pytest.approx(whole)
    parts = {found[i:j] for i in range(len(found) + 1) for j in range(i, len(found) + 1)}
    part = 1 - min(levenshtein(wanted, p) for p in parts) / len(wanted) if wanted else 1.0
    assert similarity(wanted, found, "contains") == pytest.approx(part)


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("the network is asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    page = on_page("paper")[None]
    assert float(OcrReward(threads=1).score(page, prompts('"paper"'))[0]) == 1


def test_a_missing_model_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match=r"no single file .*none.onnx") as caught:
        OcrReward(recognizer=str(tmp_path / "none.onnx"))
    assert "option recognizer" in caught.value.hint


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RewardCard, "missing_modules", lambda card: card.modules[:1])
    with pytest.raises(RewardError, match="needs rapidocr") as caught:
        make_reward("ocr", {})
    assert caught.value.hint == "pip install 'ddrl[ocr]'"


@pytest.mark.parametrize("media", [torch.ones(1, 1, 32, 96), torch.ones(3, 32, 96)])
def test_media_of_another_shape(media: Tensor) -> None:
    with pytest.raises(RewardError, match="Media has the shape"):
        ocr().score(media, prompts('"a"'))


def test_it_is_quiet(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        OcrReward().score(torch.ones(1, 3, 128, 128), prompts('"a"'))
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
