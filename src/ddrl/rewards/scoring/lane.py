"""A thread of its own for a reward, that nobody has to wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lane:
    """Makes a reward's calls one after another, in daemon threads.

    A call that hangs is left to itself: it stops neither the caller nor the end of the process,
    as the threads of an executor would, which are joined there. Later calls wait for it, since a
    reward need not bear two at once; they run out of time if it never ends.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def start(self, work: Callable[[threading.Event], T], *, name: str) -> Call[T]:
        """Start a call.

        Args:
            work: what to do; it is given an event that is set once nobody waits for it.
            name: of the thread.
        """
        return Call(work, self._turn, name)


class Call(Generic[T]):
    """A call that has been started."""

    def __init__(
        self, work: Callable[[threading.Event], T], turn: threading.Lock, name: str
    ) -> None:
        self._work, self._turn = work, turn
        self._done, self._left = threading.Event(), threading.Event()
        self._results: list[T] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def result(self, deadline: float | None = None) -> T:
        """Wait for the result.

        Args:
            deadline: time of ``time.monotonic`` until which it is waited for; None = no limit.

        Raises:
            TimeoutError: it took longer; the call is told that nobody waits for it.
            BaseException: whatever the work raised.
        """
        seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._done.wait(seconds):
            self.leave()
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._results[0]

    def leave(self) -> None:
        """Tell the call that nobody waits for it: it makes no further attempt."""
        self._left.set()

    def _run(self) -> None:
        with self._turn:
            if self._left.is_set():
                return
            try:
                self._results.append(self._work(self._left))
            except BaseException as error:  # also an exit: it is the caller's
                self._error = error
            finally:
                self._done.set()
