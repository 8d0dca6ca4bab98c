"""How often a server is asked again, and after how long; one policy for all that ask servers."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from ddrl.rewards.http.client import ExchangeError
from ddrl.rewards.http.endpoints import Endpoints

logger = logging.getLogger(__name__)

T = TypeVar("T")

_NEVER_PASSING = (501, 505)
_PASSING = (408, 409, 425, 429)


@dataclass(frozen=True)
class Patience:
    """How long an answer is worth waiting for.

    Attributes:
        attempts: how often a server is asked, at least 1.
        pause: seconds before the second attempt; each further pause is twice as long.
        deadline: seconds for all attempts and pauses together.
        timeout: seconds of one attempt.
        longest: seconds of a pause that no server asked for.
        clock: seconds that only grow.
        sleep: waits for seconds.
        jitter: a number in [0, 1), so that what failed together does not come again together.
    """

    attempts: int = 3
    pause: float = 1.0
    deadline: float = 600.0
    timeout: float = math.inf
    longest: float = 60.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    jitter: Callable[[], float] = random.Random().random

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts must be at least 1")
        if not (0 <= self.pause < math.inf and 0 < self.deadline < math.inf):
            raise ValueError("pause must be at least 0, deadline above 0")

    def backoff(self, attempt: int) -> float:
        """Return the seconds before an attempt, counted from 0; up to a quarter less, by chance."""
        if not attempt:
            return 0.0
        return min(self.pause * 2.0 ** (attempt - 1), self.longest) * (1 - self.jitter() / 4)


class NoAnswerError(Exception):
    """No address gave an answer.

    Args:
        told: why, by address.
    """

    def __init__(self, told: Mapping[str, ExchangeError]) -> None:
        super().__init__("; ".join(f"{url}: {error.cause}" for url, error in told.items()))
        self.told = told


def is_passing(status: int) -> bool:
    """Return whether the same request may succeed a moment after this status of HTTP."""
    return status in _PASSING or (status >= 500 and status not in _NEVER_PASSING)


def told_wait(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Return the seconds that a server asks to wait; None if it asks for none, or for the past.

    Reads ``retry-after-ms``, then ``retry-after`` in seconds or as a date.

    Args:
        headers: headers of the answer, by names in lower case.
        now: seconds since 1970; None: now.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) * unit
        except ValueError:
            seconds = math.nan if unit != 1.0 else _until(text, now)
        if 0 < seconds < math.inf:
            return seconds
    return None


def _until(text: str, now: float | None) -> float:
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return math.nan
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.UTC)
    return date.timestamp() - (time.time() if now is None else now)


async def persist(
    endpoints: Endpoints, ask: Callable[[str, float], Awaitable[T]], patience: Patience
) -> T:
    """Ask one address after another until one answers, all of them again after a pause.

    What a server asks to wait holds for everybody who asks it through the same ``endpoints``.

    Args:
        endpoints: the addresses.
        ask: gets an address and the seconds that it may take; raises :class:`ExchangeError`.
        patience: how often and how long.

    Raises:
        NoAnswerError: none has answered, or the deadline has passed.
    """
    told: dict[str, ExchangeError] = {}
    end = patience.clock() + patience.deadline
    for attempt in range(patience.attempts):
        left = [url for url in endpoints.order() if url not in told or told[url].passing]
        if not left:
            break
        pause = patience.backoff(attempt)
        while (wait := max(pause, min(map(endpoints.wait, left)))) > 0:
            if patience.clock() + wait >= end:
                raise NoAnswerError(_too_late(told, left[0], wait, patience.deadline))
            await patience.sleep(wait)
            pause = 0.0  # meanwhile somebody else may have been asked to wait
        for url in [url for url in left if endpoints.wait(url) <= 0]:
            try:
                left_over = max(end - patience.clock(), 1e-3)
                found = await ask(url, min(patience.timeout, left_over))
            except ExchangeError as error:
                endpoints.failed(url)
                told[url] = error
                if error.wait is not None and endpoints.hold(url, error.wait) and error.wait >= 1:
                    logger.warning("%s asks to wait %.3g s: %s", url, error.wait, error.cause)
                continue
            endpoints.worked(url)
            return found
    raise NoAnswerError(told)


def _too_late(
    told: dict[str, ExchangeError], url: str, wait: float, deadline: float
) -> dict[str, ExchangeError]:
    before = told.get(url, ExchangeError("it asks to wait", passing=True))
    cause = (
        f"{before.cause}; waiting another {wait:.3g} s would pass the deadline of {deadline:g} s"
    )
    hint = before.hint or "ask less at once, or raise the option deadline"
    late = ExchangeError(cause, hint=hint, down=before.down, refused=before.refused)
    return {**told, url: late}
