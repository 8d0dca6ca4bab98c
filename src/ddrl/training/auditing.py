"""Audits beside training: what the loop asks of them, and what it does when one is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from ddrl.errors import UsageError
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.guard import Guard
from ddrl.training.sinks import MetricSink

__all__ = ["Audit", "Auditor", "auditing", "take_audit"]


@dataclass(frozen=True)
class Audit:
    """A finished audit.

    Attributes:
        step: iterations behind the weights that were audited.
        metrics: what was found.
    """

    step: int
    metrics: Mapping[str, float]


class Auditor(Protocol):
    """Audits checkpoints one at a time while training goes on.

    Attributes:
        every: iterations between audits.
    """

    every: int

    def resume(self, step: int) -> None:
        """Make ready; begin again the audit of the checkpoint at ``step`` that a stop cut off."""
        ...

    def begin(self, step: int) -> None:
        """Begin to audit the checkpoint of a step; none may be under way."""
        ...

    def collect(self, *, wait: bool) -> Audit | None:
        """The audit that was begun, once it is done; None where none is, or not yet.

        Args:
            wait: until it is done.

        Raises:
            GuardStop: reward and audit have parted, if that stops the run.
            DDRLError: of the kind that fits, for an audit that failed.
        """
        ...

    def close(self) -> None:
        """End what runs beside training, wherever it is."""
        ...


@contextmanager
def auditing(
    auditor: Auditor | None, *, step: int, checkpoints: CheckpointFolder | None
) -> Iterator[None]:
    """Audits beside training for as long as the context lasts; nothing where there is no auditor.

    Args:
        auditor: what audits.
        step: iterations that are finished.
        checkpoints: what it reads.

    Raises:
        UsageError: there are no checkpoints to audit.
    """
    if auditor is None:
        yield
        return
    if checkpoints is None:
        raise UsageError(
            "Audits in the background read checkpoints, and this run writes none.",
            hint='pass `checkpoints`, or set evaluation.panel = "inline"',
        )
    try:
        auditor.resume(step)
        yield
    finally:
        auditor.close()


def take_audit(
    auditor: Auditor | None,
    *,
    wait: bool,
    guard: Guard,
    sinks: Sequence[MetricSink],
    checkpoints: CheckpointFolder | None,
) -> Mapping[str, float]:
    """Record the audit that is done, under the step it belongs to, and mark the best checkpoint.

    Args:
        auditor: None where there is none.
        wait: for the audit that is under way.
        guard: its limits hold for audits, too.
        sinks: take the metrics as a row of their own.
        checkpoints: in which the audited one still is: none is written before its audit is done.

    Returns:
        The metrics of the audit; empty where none is done.

    Raises:
        GuardStop: the audit or the guard stops the run.
        CheckpointError: the best one can't be marked.
    """
    audit = None if auditor is None else auditor.collect(wait=wait)
    if audit is None:
        return {}
    for sink in sinks:
        sink.write(audit.metrics, step=audit.step)
    if audit.metrics.get("audit/best") and checkpoints is not None:
        checkpoints.mark_best(step=audit.step, score=audit.metrics["audit/score"])
    guard.check(audit.metrics, step=audit.step)
    return audit.metrics
