"""``vlm_judge`` against a real HTTP server on loopback, sound and with faults."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest
import torch
from tests.rewards.chat_server import (
    TOKEN,
    Handler,
    chat_server,
    judge,
    level,
    pictures_of,
    text_of,
    walls,
)
from tests.rewards.rendering import prompts

from ddrl.errors import RewardError
from ddrl.rewards.base import make_reward
from ddrl.rewards.http.client import ExchangeError
from ddrl.rewards.judge.words import YesNo
from ddrl.testing.rewards import check_reward

ASKED = prompts("a red wall", "a red wall", "a blue wall")


@pytest.mark.parametrize("mode", ["yes_no", "rubric"])
def test_the_answer_becomes_the_score(mode: str) -> None:
    with chat_server() as server:
        found = judge(server.url, mode=mode).score(walls(0.2, 0.8, 0.8), ASKED)
    expected = torch.tensor([level(0.2), level(0.8), 1 - level(0.8)])
    torch.testing.assert_close(found, expected, atol=1e-3 if mode == "rubric" else 1e-6, rtol=0)


@pytest.mark.parametrize("mode", ["yes_no", "rubric"])
def test_the_contract(mode: str) -> None:
    with chat_server() as server:
        check_reward(judge(server.url, mode=mode), walls(0.2, 0.5, 0.8), ASKED)


def test_what_is_sent() -> None:
    media = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    asked = prompts('a cat that says "no {low}"', "a dog")
    with chat_server() as server:
        judge(server.url, concurrency=1).score(media, asked)
        first, second = server.requests
    assert asked.text[0] in text_of(first)
    assert asked.text[1] in text_of(second)
    assert first["model"] == "tiny"
    assert (first["max_tokens"], first["temperature"], first["token"]) == (1, 0, None)
    for body, picture in zip((first, second), media, strict=True):
        (sent,) = pictures_of(body)
        assert np.array_equal(sent, (255 * picture).round().byte().movedim(0, -1).numpy())


def test_frames_of_a_clip_are_pictures_of_one_question() -> None:
    clips = torch.rand(2, 7, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with chat_server() as server:
        judge(server.url, frames=3, concurrency=1).score(clips, prompts("a cat", "a dog"))
        sent = [pictures_of(body) for body in server.requests]
        text = text_of(server.requests[0])
    assert [len(pictures) for pictures in sent] == [3, 3]
    assert "3 frames of one video" in text
    wanted = (255 * clips[1, [0, 3, 6]]).round().byte().movedim(1, -1).numpy()
    assert np.array_equal(np.stack(sent[1]), wanted)


def test_a_question_and_a_rubric_of_ones_own() -> None:
    with chat_server() as server:
        question = "Rate {prompt}, {low} to {high}."
        reward = judge(server.url, mode="rubric", question=question, low=-10, high=30, max_tokens=9)
        found = reward.score(walls(1.0), prompts("a red wall"))
        (body,) = server.requests
    assert text_of(body).startswith("Rate a red wall, -10 to 30. Answer with one JSON object")
    assert body["max_tokens"] == 9
    assert float(found) == pytest.approx((10 + 10) / 40)  # the server says 10


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", TOKEN)
    with chat_server() as server:
        judge(server.url, token_env="JUDGE_TOKEN").score(walls(0.5), prompts("a red wall"))
        assert server.requests[0]["token"] == f"Bearer {TOKEN}"
    monkeypatch.delenv("JUDGE_TOKEN")
    with pytest.raises(RewardError, match="variable JUDGE_TOKEN is not set"):
        judge("http://127.0.0.1:9/v1", token_env="JUDGE_TOKEN")


def test_no_more_questions_at_once_than_said() -> None:
    barrier = threading.Barrier(3)

    def together(handler: Handler, body: dict[str, Any]) -> bool:
        if len(handler.server.requests) > 1:  # the first is asked alone
            barrier.wait(5)  # breaks unless three are under way
        return False

    with chat_server(together) as server:
        reward = judge(server.url, concurrency=3)
        reward.score(walls(0.5), prompts("red"))
        found = reward.score(walls(*[0.5] * 9), prompts(*["red"] * 9))
        assert server.most_under_way == 3
    assert bool(found.isfinite().all())


def test_the_model_is_found_out_where_there_is_one() -> None:
    with chat_server(models=("a", "b")) as server:
        with pytest.raises(RewardError, match="lists 2 models") as caught:
            judge(server.url)
        assert caught.value.hint == "name one with the option model: a, b"
        judge(server.url, model="b").score(walls(0.5), prompts("red"))
        assert server.requests[0]["model"] == "b"
        whole = judge(server.url + "/chat/completions", model="a")
        assert float(whole.score(walls(0.5), prompts("red"))) == pytest.approx(level(0.5))


def test_pixels_that_are_no_numbers_are_not_sent() -> None:
    media = walls(0.2, 0.8)
    media[0, 0, 0, 0] = torch.nan
    with chat_server() as server:
        found = judge(server.url).score(media, prompts("red", "red"))
        assert len(server.requests) == 1
    assert found.isnan().tolist() == [True, False]


@pytest.mark.parametrize(
    ("words", "share"),
    [
        ({"Yes": 0.6, "No": 0.2}, 0.75),
        ({"yes.": 0.3, "Ġyes": 0.3, '"No"': 0.2, "Nothing": 0.2}, 0.75),
        ({"\n\nYES": 0.5, "yesterday": 0.4}, 1.0),
        ({"NO": 0.05, "yes": 0.05}, 0.5),
        ({"No": 1.0}, 0.0),
    ],
)
def test_spellings(words: dict[str, float], share: float) -> None:
    top: list[dict[str, Any]] = [{"token": t, "logprob": math.log(p)} for t, p in words.items()]
    found: dict[str, Any] = {"logprobs": {"content": [{"top_logprobs": top}]}}
    assert YesNo().share(found) == pytest.approx(share)
    for each in top:
        each["logprob"] -= 9  # what is left is not worth asking
    with pytest.raises(ExchangeError, match="neither yes nor no"):
        YesNo().share(found)


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({}, r"needs the option url\."),
        ({"url": "localhost:8000"}, "must begin with http"),
        (
            {"url": "http://h", "model": "m", "question": "Is it {promt}?"},
            r"question has \{promt\}",
        ),
        ({"url": "http://h", "low": 5.0, "high": 5.0}, "low must be less than high"),
        ({"url": "http://h", "mode": "maybe"}, "'mode' of reward 'vlm_judge' can't be 'maybe'"),
        ({"url": "http://h", "timeout": 0.0}, "timeout must be above 0"),
        ({"url": "http://h", "attempts": 0}, "at least 1"),
    ],
)
def test_wrong_options(options: dict[str, Any], phrase: str) -> None:
    with pytest.raises(RewardError, match=phrase):
        make_reward("vlm_judge", options)
