"""How a conformance check fails."""

from __future__ import annotations

from ddrl.errors import DDRLError


class ConformanceError(DDRLError):
    """The adapter does not keep the contract."""


def require(holds: bool, message: str) -> None:
    """Raise what says in words that the contract is not kept.

    Raises:
        ConformanceError: it is not.
    """
    if not holds:
        raise ConformanceError(message)
