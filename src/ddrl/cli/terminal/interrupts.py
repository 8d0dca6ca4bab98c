"""SIGINT, SIGTERM and SIGHUP: the first lets an iteration finish, another does not."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, ClassVar, Self

# Linux tells of a parent's death once for each of its threads that has a child to hand on.
_ONE_DEATH = 1.0  # seconds

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked for the end; no `except Exception` of a reward may swallow it.

    Args:
        number: of the signal.
        message: what became of the run.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message or f"stopped at once by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Interrupts:
    """A context in which signals are counted, but for those that the process was told to ignore.

    ``nohup`` has SIGHUP ignored, and a shell script SIGINT in what it leaves in the background.

    Attributes:
        number: of the signal that asked for the end, 0 if none did.
        ends_with_parent: whether this process gets SIGTERM when its parent ends, which may come
            several times.
    """

    ends_with_parent: ClassVar[bool] = False

    def __init__(self) -> None:
        self.number = 0
        self._asked_at = 0.0
        self._announce: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Python gives signals to the main thread alone; elsewhere they stay with the caller.
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._handle)
                for number in _SIGNALS
                if signal.getsignal(number) is not signal.SIG_IGN
            }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def be_patient(self, announce: Callable[[], None]) -> None:
        """Have a first signal only ask: from now on, look at ``number`` now and then.

        Args:
            announce: called in the midst of anything when it asks; must not wait for a lock.
        """
        self._announce = announce

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        is_first, self.number = not self.number, self.number or number
        if number == signal.SIGHUP and not is_first:
            return  # a terminal that closes sends several, and systemd one after SIGTERM
        now = time.monotonic()
        if is_first:
            self._asked_at = now
        elif self._is_told_again(number, now):
            return
        if not is_first or self._announce is None:
            raise Interrupted(number)
        self._announce()

    def _is_told_again(self, number: int, now: float) -> bool:
        """Whether this is the end of the parent that the first signal was about."""
        is_soon = now - self._asked_at < _ONE_DEATH
        return self.ends_with_parent and self.number == number == signal.SIGTERM and is_soon
