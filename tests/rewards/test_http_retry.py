"""How often servers are asked again, and after how long, by a clock that the tests move."""

from __future__ import annotations

import asyncio
import email.utils
from typing import Any

import pytest

from ddrl.rewards.http.client import ExchangeError
from ddrl.rewards.http.endpoints import Endpoints
from ddrl.rewards.http.retry import NoAnswerError, Patience, is_passing, persist, told_wait


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": email.utils.formatdate(1000 + 30, usegmt=True)}, 30.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:17:10 -0000"}, 30.0),
        ({"retry-after": email.utils.formatdate(1000 - 30, usegmt=True)}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 400}, None),
        ({}, None),
    ],
)
def test_what_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert told_wait(headers, now=1000.0) == seconds


def test_what_passes() -> None:
    passing = [status for status in range(400, 600) if is_passing(status)]
    assert passing[:6] == [408, 409, 425, 429, 500, 502]
    assert {503, 504, 524, 529} <= set(passing)
    assert not {501, 505} & set(passing)


class Clock:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, list[float]()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


BUSY = ExchangeError("busy", passing=True)


def persisted(plan: dict[str, list[ExchangeError]], **more: Any) -> tuple[str, list[float], Any]:
    """Ask addresses that fail as planned, then answer; what came, the pauses and the asked."""
    clock, asked = Clock(), list[str]()
    patience = Patience(clock=clock, sleep=clock.sleep, jitter=lambda: 0.0, **more)
    endpoints = Endpoints(list(plan), clock=clock)

    async def one(url: str, left: float) -> str:
        asked.append(url)
        if plan[url]:
            raise plan[url].pop(0)
        return f"{url} with {left:g} left"

    try:
        found = asyncio.run(persist(endpoints, one, patience))
    except NoAnswerError as error:
        return str(error), clock.slept, asked
    return found, clock.slept, asked


def busy(wait: float) -> ExchangeError:
    return ExchangeError("busy", passing=True, wait=wait)


def test_pauses_double_up_to_a_limit_and_end_with_the_attempts() -> None:
    found, slept, _ = persisted({"a": [BUSY] * 9}, attempts=5, longest=3.0)
    assert (found, slept) == ("a: busy", [1.0, 2.0, 3.0, 3.0])
    lower = Patience(jitter=lambda: 0.99).backoff(2)
    assert lower == pytest.approx(2 * (1 - 0.99 / 4))


def test_a_wait_that_is_asked_for_is_kept() -> None:
    found, slept, _ = persisted({"a": [busy(30.0), busy(0.2)]}, attempts=3)
    assert slept == [30.0, 2.0]  # never less than without being asked
    assert found == "a with 568 left"


def test_a_wait_beyond_the_deadline_ends_at_once() -> None:
    found, slept, _ = persisted({"a": [busy(90.0)]}, deadline=60.0)
    assert slept == []
    assert found == "a: busy; waiting another 90 s would pass the deadline of 60 s"
    found, slept, _ = persisted({"a": [BUSY] * 9}, attempts=9, deadline=8.0)
    assert sum(slept) == 7.0
    assert "would pass the deadline of 8 s" in found


def test_while_one_address_asks_to_wait_another_is_asked() -> None:
    plan = {"a": [busy(30.0)], "b": [BUSY]}
    found, slept, asked = persisted(plan)
    assert (found, slept, asked) == ("b with 599 left", [1.0], ["a", "b", "b"])


def test_what_does_not_pass_is_not_asked_again() -> None:
    wrong = ExchangeError("wrong token")
    assert persisted({"a": [wrong] * 2})[::2] == ("a: wrong token", ["a"])
    found, _, asked = persisted({"a": [wrong], "b": [BUSY] * 3})
    assert (found, asked) == ("a: wrong token; b: busy", ["a", "b", "b", "b"])
