"""The samples of a batch, which come in part by part and are read by several rewards."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor


class Feed:
    """Samples that are there from some time on; who reads a later one waits for it."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def add(self, media: Tensor) -> None:
        """Append samples, shape (P, ...)."""
        with self._changed:
            self._parts.append(media)
            self._changed.notify_all()

    def close(self) -> None:
        """Send home whoever waits for samples that will not come, and let go of all others."""
        with self._changed:
            self._closed = True
            self._parts.clear()
            self._changed.notify_all()

    def take(self, rows: Sequence[int]) -> Tensor | None:
        """Wait for samples and return them, by their places in the batch, ascending.

        Returns:
            Shape (len(rows), ...), a part as it came where it is just that; None: closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self) > rows[-1])
            if self._closed:
                return None
            parts = list(self._parts)
        first, last, start = rows[0], rows[-1], 0
        pieces = []
        for part in parts:
            low, high = max(first - start, 0), min(last + 1 - start, len(part))
            if low < high:
                pieces.append(part if high - low == len(part) else part[low:high])
            start += len(part)
        span = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return span if len(rows) == len(span) else span[[row - first for row in rows]]
