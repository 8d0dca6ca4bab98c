"""``vlm_judge`` when the endpoint fails: each fault costs its sample and is never a number."""

from __future__ import annotations

import math
import re
import time
from typing import Any

import pytest
import torch
from tests.rewards.chat_server import Fault, Handler, chat_server, judge, level, text_of, walls
from tests.rewards.rendering import prompts

from ddrl.errors import RewardError
from ddrl.rewards.base import SampleError
from ddrl.rewards.judge.chat import MAX_REPLY


def said(content: object, **more: Any) -> Fault:
    """An answer with this content."""

    def fault(handler: Handler, body: dict[str, Any]) -> bool:
        choice = {"message": {"content": content}, "finish_reason": "stop", **more}
        handler.reply(200, {"choices": [choice]})
        return True

    return fault


def status(code: int, message: str) -> Fault:
    def fault(handler: Handler, body: dict[str, Any]) -> bool:
        handler.reply(code, {"error": {"message": message}})
        return True

    return fault


def raw(data: bytes, *, cut: int = 0) -> Fault:
    def fault(handler: Handler, body: dict[str, Any]) -> bool:
        handler.reply(200, data, cut=cut)
        if cut:
            handler.close_connection = True
        return True

    return fault


def hang(handler: Handler, body: dict[str, Any]) -> bool:
    handler.server.released.wait(20)
    return True


def drip(handler: Handler, body: dict[str, Any]) -> bool:
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b" ")
    return True


def tokens(*pairs: tuple[str, Any]) -> Fault:
    top = [{"token": token, "logprob": logprob} for token, logprob in pairs]
    return said("x", logprobs={"content": [{"token": "x", "top_logprobs": top}]})


BAD_ANSWERS: dict[str, tuple[Fault, str, str]] = {
    "busy": (status(429, "slow down"), "yes_no", "answered 429: 'slow down'"),
    "broken": (status(500, "oops"), "yes_no", "answered 500: 'oops'"),
    "too large a picture": (
        status(400, "image too big"),
        "yes_no",
        "answered 400: 'image too big'",
    ),
    "hang": (hang, "yes_no", "no whole answer came within 0.4 s"),
    "drip": (drip, "yes_no", "no whole answer came within 0.4 s"),
    "garbage": (raw(b"<html>bad gateway</html>"), "yes_no", "the reply is no JSON: '<html>"),
    "truncated": (raw(b'{"choices": []}', cut=5), "yes_no", "the reply is cut off"),
    "too long": (raw(b" " * (MAX_REPLY + 1)), "yes_no", "larger than the limit of 4194304 bytes"),
    "another form": (raw(b"[1, 2]"), "yes_no", "no choices with a message"),
    "no choice": (raw(b'{"choices": []}'), "rubric", "no choices with a message"),
    "refusal": (
        said(None, message={"content": None, "refusal": "I can't help with that."}),
        "rubric",
        "the judge refused: \"I can't help",
    ),
    "filter": (said("", finish_reason="content_filter"), "yes_no", "refused: 'content filter'"),
    "no log-probabilities": (said("Yes"), "yes_no", "without the log-probabilities"),
    "null log-probabilities": (said("Yes", logprobs=None), "yes_no", "without the log-prob"),
    "empty log-probabilities": (said("Yes", logprobs={"content": []}), "yes_no", "without the"),
    "NaN": (tokens(("Yes", math.nan), ("No", -1.0)), "yes_no", "is NaN or above 0"),
    "above 0": (tokens(("Yes", 3.0)), "yes_no", "is NaN or above 0"),
    "a word": (tokens(("Yes", "likely")), "yes_no", "without the log-probabilities"),
    "neither": (tokens(("I", -0.1), ("Yes", -9.0)), "yes_no", "neither yes nor no; .* 'I'"),
    "none": (tokens(), "yes_no", "neither yes nor no"),
    "prose": (said("A fine picture, 9 of them!"), "rubric", "has no score: 'A fine"),
    "null": (said(None), "rubric", "the answer has no text"),
    "a list": (said("[7, 8]"), "rubric", "has no score"),
    "no score": (said('{"reason": "x"}'), "rubric", "has no score"),
    "a score in words": (said('{"score": "nine"}'), "rubric", "'nine', which is no number"),
    "true": (said('{"score": true}'), "rubric", "True, which is no number"),
    "score NaN": (said('{"score": NaN}'), "rubric", "nan, which is not from 0 to 10"),
    "out of range": (said('{"score": 11}'), "rubric", "11, which is not from 0 to 10"),
    "cut off": (
        said('{"score": 1', finish_reason="length"),
        "rubric",
        "cut off at max_tokens = 512",
    ),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_fault_costs_its_sample_and_gives_no_number(name: str) -> None:
    fault, mode, phrase = BAD_ANSWERS[name]

    def for_the_second(handler: Handler, body: dict[str, Any]) -> bool:
        return "blue" in text_of(body) and fault(handler, body)

    with chat_server(for_the_second) as server:
        limit = 0.4 if fault in (hang, drip) else 20.0
        reward = judge(server.url, mode=mode, attempts=2, timeout=limit)
        asked = prompts("a red wall", "a blue wall", "a red wall")
        with pytest.raises(SampleError, match="1 of 3 samples have no reward") as caught:
            reward.score(walls(0.2, 0.5, 0.8), asked)
        assert set(caught.value.causes) == {1}
        assert re.search(phrase, caught.value.causes[1])
    value = caught.value.value
    assert value.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(
        value[[0, 2]], torch.tensor([level(0.2), level(0.8)]), atol=1e-3, rtol=0
    )


def test_what_passes_is_asked_again() -> None:
    seen: dict[str, int] = {}

    def at_first(handler: Handler, body: dict[str, Any]) -> bool:
        seen[text_of(body)] = seen.get(text_of(body), 0) + 1
        if seen[text_of(body)] < 3:
            handler.reply(503 if seen[text_of(body)] == 1 else 429, {})
            return True
        return False

    with chat_server(at_first) as server:
        reward = judge(server.url, attempts=3)
        assert bool(reward.score(walls(0.2, 0.8), prompts("red", "a red wall")).isfinite().all())
        assert sorted(seen.values()) == [3, 3]
    seen.clear()
    with chat_server(at_first) as server, pytest.raises(SampleError, match="answered 429"):
        judge(server.url, attempts=2).score(walls(0.2), prompts("red"))
    assert list(seen.values()) == [2]


def test_an_endpoint_that_is_down_is_an_error_of_the_reward() -> None:
    with chat_server() as server:
        reward, url = judge(server.url, attempts=1), server.url
    with pytest.raises(RewardError, match=f"{url} can't be reached") as caught:
        reward.score(walls(0.2, 0.8), prompts("red", "red"))
    assert not isinstance(caught.value, SampleError)
    assert caught.value.hint == "is the endpoint running?"
    with pytest.raises(RewardError, match=r"does not list its models: .* can't be reached"):
        judge(url)


@pytest.mark.parametrize(
    ("code", "said", "hint"),
    [
        (401, "bad token", "token_env (now no token is sent)"),
        (404, "no such model", "is the option model one of its models"),
    ],
)
def test_an_endpoint_that_refuses_everything(code: int, said: str, hint: str) -> None:
    with chat_server(status(code, said)) as server, pytest.raises(RewardError) as caught:
        judge(server.url, model="x").score(walls(0.2, 0.8), prompts("red", "red"))
    assert f"refuses every question: the endpoint answered {code}: '{said}'" in caught.value.message
    assert hint in caught.value.hint
    assert not isinstance(caught.value, SampleError)


def test_a_judge_that_hangs_is_left_in_time() -> None:
    with chat_server(hang) as server:
        reward = judge(server.url, timeout=0.3, concurrency=8)
        start = time.monotonic()
        with pytest.raises(SampleError, match="8 of 8 samples"):
            reward.score(walls(*[0.5] * 8), prompts(*["red"] * 8))
        assert time.monotonic() - start < 10
