"""How a caller is told how far a job is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self


class Reporter(Protocol):
    """Shows how far a command is; a context, so that what it shows ends with it."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(self, *_: object) -> None:
        """Stop showing."""
        ...

    def made(self, what: str, done: int, total: int, note: str) -> None:
        """Show that something that the run needs is being made."""
        ...

    def begin(self, step: int, total: int) -> None:
        """Show that training begins after ``step`` of ``total`` iterations."""
        ...

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show that an iteration is finished."""
        ...

    def stopping(self) -> None:
        """Show that this iteration is the last. A signal handler calls it: it waits for nothing."""
        ...


class Silent:
    """Shows nothing; the log still says what is made."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def made(self, what: str, done: int, total: int, note: str) -> None:
        """Show nothing."""

    def begin(self, step: int, total: int) -> None:
        """Show nothing."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show nothing."""

    def stopping(self) -> None:
        """Show nothing."""
