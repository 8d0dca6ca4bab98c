"""Measures the seconds of an iteration and of its parts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Takes the seconds of an iteration and of its parts: ``with clock("rollout")``.

    Attributes:
        seconds: seconds of each part so far.
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the seconds that the context lasts to a part."""
        start = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start

    def metrics(self) -> dict[str, float]:
        """Return the seconds of the parts, and ``seconds`` since the clock was made."""
        parts = {f"seconds/{part}": seconds for part, seconds in self.seconds.items()}
        return {**parts, "seconds": time.perf_counter() - self._start}
