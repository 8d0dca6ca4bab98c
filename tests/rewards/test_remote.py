"""The reward that asks a server: right answers, and every fault of a server or of the way to it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
import torch
from tests.rewards.reward_server import Answer, brightness, good, serving

from ddrl.errors import RewardError
from ddrl.records import Prompts, Status
from ddrl.rewards import remote
from ddrl.rewards.base import SampleError, make_reward
from ddrl.rewards.remote import RemoteReward
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.scorer import FailurePolicy, Scorer
from ddrl.rewards.wire.message import Request
from ddrl.testing.rewards import check_reward

SIZE = 8
MEDIA = torch.rand((SIZE, 3, 4, 6), generator=torch.Generator().manual_seed(0))
GROUP = torch.arange(2).repeat_interleave(4)
PROMPTS = Prompts(GROUP, ("ant",) * 4 + ("bee",) * 4, tuple({"row": i} for i in range(SIZE)))


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.01)


@pytest.fixture
def dead() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{probe.getsockname()[1]}/bright"


def right(request: Request) -> Answer:
    return Answer(good(request))


def test_it_is_a_reward_like_any_other() -> None:
    with serving(right) as server:
        check_reward(RemoteReward(url=server.url, samples_per_request=2), MEDIA, PROMPTS)


def test_every_sample_gets_its_own_value_whatever_the_requests_are() -> None:
    with serving(right) as server:
        for size, count in ((3, 3), (1, 8), (0, 1), (100, 1)):
            server.requests.clear()
            made = RemoteReward(url=server.url, samples_per_request=size, connections=2)
            value = made.score(MEDIA, PROMPTS)
            torch.testing.assert_close(value, MEDIA.flatten(1).mean(1))
            assert len(server.requests) == count
            told = {m["row"]: t for r in server.requests for m, t in zip(r.metadata, r.prompts)}  # noqa: B905
            assert told == dict(enumerate(PROMPTS.text))
        assert RemoteReward(url=server.url).score(MEDIA[:0], PROMPTS.select([])).shape == (0,)


def test_groups_are_sent_whole() -> None:
    with serving(right) as server:
        made = RemoteReward(url=server.url, level="group", samples_per_request=5, connections=1)
        mixed = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
        value = made.score(MEDIA, PROMPTS, mixed)
        torch.testing.assert_close(value, MEDIA.flatten(1).mean(1))
        assert sorted(request.group for request in server.requests) == [(0,) * 4, (1,) * 4]


def test_the_token_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "secret")
    with serving(right) as server:
        make_reward("remote", {"url": server.url, "token_env": "A_TOKEN"})
        RemoteReward(url=server.url, token_env="A_TOKEN").score(MEDIA, PROMPTS)
        assert server.tokens == ["Bearer secret"]


@pytest.mark.parametrize("encoding", ["uint8", "png"])
def test_levels_are_within_rounding(encoding: Any) -> None:
    with serving(right) as server:
        made = RemoteReward(url=server.url, encoding=encoding)
        value = made.score(MEDIA, PROMPTS)
        torch.testing.assert_close(value, MEDIA.flatten(1).mean(1), atol=0.5 / 255, rtol=0)
        broken = MEDIA.clone()
        broken[2, 0, 0, 0] = torch.nan
        with pytest.raises(SampleError, match=f"sample 2: .*not finite, which {encoding} can't"):
            made.score(broken, PROMPTS)


def wrong(**changes: Any) -> Callable[[Request], Answer]:
    return lambda request: Answer({**good(request), **changes})


def swapped(request: Request) -> Answer:
    reply = good(request)
    return Answer({k: v[::-1] if k in ("samples", "values") else v for k, v in reply.items()})


def short(request: Request) -> Answer:
    reply = good(request)
    return Answer({**reply, "samples": reply["samples"][:-1], "values": reply["values"][:-1]})


def truncated(request: Request) -> Answer:
    return Answer(b'{"format": "ddrl-rew', length=1000)


NAN = float("nan")
FAULTS: dict[str, tuple[Callable[[Request], Answer], str]] = {
    "500": (lambda _: Answer(b"boom", 500), r"it failed, status 500 \(boom\)"),
    "raised": (
        lambda _: Answer({"format": "ddrl-reward/1", "error": "no quote", "hint": "add one"}, 500),
        r"no quote \(status 500\)",
    ),
    "401": (lambda _: Answer(b"", 401), "it does not accept the token, status 401"),
    "404": (lambda _: Answer(b"", 404), "there is no reward under this address, status 404"),
    "413": (lambda _: Answer(b"", 413), "the request is too large for it, status 413"),
    "moved": (lambda _: Answer(b"", 302, location="http://127.0.0.1:1/"), "it moved, status 302"),
    "truncated": (truncated, "the reply is cut off"),
    "not JSON": (lambda _: Answer(b"<html>"), "not of ddrl-reward/1: invalid JSON"),
    "version": (wrong(format="ddrl-reward/2"), "it speaks 'ddrl-reward/2', not 'ddrl-reward/1'"),
    "oversized": (lambda _: Answer(b" " * 200_000), "the reply is larger than the limit of 73728"),
    "too few": (short, "the reply has 7 values for 8 samples"),
    "too many": (wrong(values=[0.5] * 9), "the reply has 9 values for 8 samples"),
    "order": (swapped, "the reply has the samples in another order"),
    "other request": (wrong(request="abc"), "the reply is to request 'abc', not '"),
    "other samples": (wrong(samples=[str(i) for i in range(8)]), "the reply has other samples"),
    "no numbers": (wrong(values=["0.5"] * 8), "not of ddrl-reward/1: values.0: input should be"),
    "booleans": (wrong(values=[True] * 8), "not of ddrl-reward/1: values.0: input should be"),
}


@pytest.mark.parametrize("policy", get_args(FailurePolicy))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_never_becomes_a_number(fault: str, policy: FailurePolicy) -> None:
    plan, phrase = FAULTS[fault]
    with serving(plan) as server:
        made = RemoteReward(url=server.url, attempts=1)
        scorer = Scorer([WeightedReward("remote", made)], on_failure=policy, max_failed_share=1)
        with pytest.raises(RewardError, match=rf"'remote' failed.*{server.url}: {phrase}"):
            scorer.score(MEDIA, PROMPTS, GROUP)


@pytest.mark.parametrize("value", [NAN, float("inf"), None])
@pytest.mark.parametrize("policy", get_args(FailurePolicy))
def test_a_value_that_is_no_number_costs_its_sample(
    value: float | None, policy: FailurePolicy
) -> None:
    def plan(request: Request) -> Answer:
        reply = good(request)
        values = [*reply["values"][:3], value, *reply["values"][4:]]
        causes = {reply["samples"][3]: "no text found"} if value is None else {}
        return Answer({**reply, "values": values, "causes": causes})

    with serving(plan) as server:
        scorer = Scorer(
            [WeightedReward("remote", RemoteReward(url=server.url))],
            on_failure=policy,
            max_failed_share=1,
        )
        if policy == "abort":
            cause = "sample 3 .'ant'.: no text found" if value is None else "sample 3 .'ant'.$"
            with pytest.raises(RewardError, match=cause.replace("$", "")):
                scorer.score(MEDIA, PROMPTS, GROUP)
            return
        scores = scorer.score(MEDIA, PROMPTS, GROUP)
    kind = Status.ERROR if value is None else Status.NOT_FINITE
    assert scores.status[:, 0].tolist() == [0, 0, 0, kind, 0, 0, 0, 0]
    assert scores.value[3].isnan()
    lost = 4 if policy == "drop_group" else 1
    assert int((~scores.valid).sum()) == lost


def test_a_request_that_fails_costs_its_samples_alone() -> None:
    def plan(request: Request) -> Answer:
        failing = any(m["row"] == 5 for m in request.metadata)
        return Answer(b"boom", 500) if failing else right(request)

    with serving(plan) as server:
        made = RemoteReward(url=server.url, samples_per_request=2, attempts=2)
        with pytest.raises(SampleError) as caught:
            made.score(MEDIA, PROMPTS)
    assert sorted(caught.value.causes) == [4, 5]
    assert caught.value.causes[4] == f"{server.url}: it failed, status 500 (boom)"
    kept = [0, 1, 2, 3, 6, 7]
    torch.testing.assert_close(caught.value.value[kept], MEDIA.flatten(1).mean(1)[kept])


def test_a_server_that_hangs_is_left() -> None:
    release = threading.Event()

    def hang(request: Request) -> Answer:
        release.wait(30)
        return right(request)

    with serving(hang) as server:
        start = time.monotonic()
        with pytest.raises(RewardError, match=rf"{server.url}: no whole answer came within 0.3 s"):
            RemoteReward(url=server.url, timeout=0.3).score(MEDIA, PROMPTS)
        assert time.monotonic() - start < 5
        release.set()


def test_a_refused_connection_says_so(dead: str) -> None:
    with pytest.raises(RewardError) as caught:
        RemoteReward(url=dead).score(MEDIA, PROMPTS)
    assert caught.value.message == f"{dead}: the connection was refused."


def test_what_passes_is_tried_again() -> None:
    left = [Answer(b"", 503), Answer(b"", 500, length=7)]

    def plan(request: Request) -> Answer:
        return left.pop(0) if left else right(request)

    with serving(plan) as server:
        value = RemoteReward(url=server.url, attempts=3).score(MEDIA, PROMPTS)
    torch.testing.assert_close(value, MEDIA.flatten(1).mean(1))
    assert left == []


def test_another_address_takes_over_and_the_first_is_remembered(dead: str) -> None:
    asked: list[str] = []

    def plan(name: str) -> Callable[[Request], Answer]:
        def answer(request: Request) -> Answer:
            asked.append(name)
            return Answer(b"", 500) if name == "broken" else right(request)

        return answer

    with serving(plan("broken")) as broken, serving(plan("good")) as second:
        made = RemoteReward(url=f"{dead}, {broken.url},{second.url}")
        for _ in range(3):
            value = made.score(MEDIA, PROMPTS)
            torch.testing.assert_close(value, MEDIA.flatten(1).mean(1))
    assert asked == ["broken", "good", "good", "good"]


def test_when_all_fail_each_is_named(dead: str) -> None:
    with serving(lambda _: Answer(b"", 401)) as locked:
        with pytest.raises(RewardError) as caught:
            RemoteReward(url=f"{dead},{locked.url}", attempts=2).score(MEDIA, PROMPTS)
        assert len(locked.requests) == 1  # a wrong token does not become right
    assert caught.value.message == (
        f"None of 2 addresses gave a reward: {dead}: the connection was refused; "
        f"{locked.url}: it does not accept the token, status 401."
    )
    assert "token_env" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"url": "localhost:8000/ocr"}, "is no http:// or https:// address"),
        ({"url": "http://"}, "is no http:// or https:// address"),
        ({"url": " , "}, "url names no address"),
        ({"url": "http://a/b,http://a/b"}, "one of them twice"),
        ({"url": "http://me:pass@a/b"}, "a url holds no password; use token_env"),
        ({"url": "http://a/b", "timeout": 0.0}, "timeout and fps must be above 0"),
        ({"url": "http://a/b", "attempts": 0}, "attempts must be at least 1"),
        ({"url": "http://a/b", "encoding": "gif"}, "Option 'encoding' of reward 'remote'"),
        (
            {"url": "http://a/b", "token_env": "NOT_SET_AT_ALL"},
            "variable NOT_SET_AT_ALL is not set",
        ),
        ({"urls": "http://a/b"}, "has no option 'urls'"),
    ],
)
def test_wrong_options_are_found_at_once(options: dict[str, object], phrase: str) -> None:
    with pytest.raises(RewardError, match=phrase):
        make_reward("remote", options)


def test_metadata_has_to_be_json() -> None:
    odd = Prompts(PROMPTS.prompt_id, PROMPTS.text, ({"row": {1, 2}},) * SIZE)
    with serving(right) as server, pytest.raises(RewardError, match="can't be sent to a remote"):
        RemoteReward(url=server.url).score(MEDIA, odd)


def test_brightness_is_what_it_says() -> None:
    assert brightness(Request(MEDIA.numpy(), PROMPTS.text, (0,) * SIZE, ({},) * SIZE))[0] == (
        pytest.approx(float(MEDIA[0].mean()))
    )
