"""Several addresses of one service: which to ask first, with a memory of which failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence


class Endpoints:
    """Addresses in the order of preference; one that failed is asked last for some time.

    Args:
        urls: at least one.
        rest: seconds for which an address that failed is asked last; doubles with each failure in
            a row.
        longest: the most seconds of such a rest.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        rest: float = 5.0,
        longest: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.urls = tuple(urls)
        self._rest, self._longest, self._clock = rest, longest, clock
        self._failures = dict.fromkeys(self.urls, 0)
        self._until = dict.fromkeys(self.urls, 0.0)
        self._held = dict.fromkeys(self.urls, 0.0)
        self._lock = threading.Lock()

    def order(self) -> list[str]:
        """Return all addresses in the order of preference, those that rest after the others."""
        with self._lock:
            now = self._clock()
            return sorted(self.urls, key=lambda url: max(self._until[url], self._held[url]) > now)

    def failed(self, url: str) -> None:
        """Let an address rest that gave no answer."""
        with self._lock:
            if self._until[url] > self._clock():
                return  # failures side by side are one
            self._failures[url] += 1
            seconds = min(self._rest * 2 ** (self._failures[url] - 1), self._longest)
            self._until[url] = self._clock() + seconds

    def worked(self, url: str) -> None:
        """Forget the failures of an address that gave an answer."""
        with self._lock:
            self._failures[url], self._until[url] = 0, 0.0

    def hold(self, url: str, seconds: float) -> bool:
        """Hold an address that asked for a pause; return whether it was not held already."""
        with self._lock:
            now = self._clock()
            is_new = self._held[url] <= now
            self._held[url] = max(self._held[url], now + seconds)
            return is_new

    def wait(self, url: str) -> float:
        """Return the seconds until an address may be asked again; 0 where it asked for nothing."""
        with self._lock:
            return max(0.0, self._held[url] - self._clock())
