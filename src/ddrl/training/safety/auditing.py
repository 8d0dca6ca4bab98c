"""Audits of a run: the result of one, the record of all, and audits while training goes on.

A monitor measures the weights as they are, while training waits. An auditor measures checkpoints,
while training goes on. Neither remembers anything: what is known of the audits so far is an
:class:`AuditRecord`, which the loop keeps and writes into every checkpoint.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from ddrl.errors import CheckpointError, UsageError
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.logs.shown import Shown
from ddrl.training.manifest import Checkpoint


@dataclass(frozen=True)
class Audit:
    """The result of an audit of the weights of one step.

    Attributes:
        step: iterations that made the weights.
        metrics: the figures, by name.
        sentence: the verdict in words; empty where only the drift was measured.
        shown: a few of the samples that it measured; None where it made none.
    """

    step: int
    metrics: Mapping[str, float]
    sentence: str = ""
    shown: Shown | None = field(default=None, compare=False)


Monitor = Callable[[int], Audit]
"""Measures the weights of a step as they are now."""


@dataclass(frozen=True)
class AuditRecord:
    """The record of a run's audits.

    Attributes:
        step: step of the newest audit; every audit due before it has been made.
        score: score of the newest audit; None where it has none.
        hacked: number of audits in a row that said hacked, up to the newest.
        best: the highest score so far; None where none has one.
        is_best: whether the newest one has it.
    """

    step: int = 0
    score: float | None = None
    hacked: int = 0
    best: float | None = None
    is_best: bool = False

    def is_due(self, step: int, every: int) -> bool:
        """Return whether a step has to be audited and has not been."""
        return every > 0 and step % every == 0 and self.step < step

    def after(self, audit: Audit) -> AuditRecord:
        """The record with one more audit."""
        found = audit.metrics
        if "audit/hacked" not in found:
            return dataclasses.replace(self, step=audit.step, score=None, is_best=False)
        score = found.get("audit/score")
        if score is None or not math.isfinite(score):
            score, is_best = None, False
        else:
            is_best = self.best is None or score > self.best
        return AuditRecord(
            step=audit.step,
            score=score,
            hacked=self.hacked + 1 if found["audit/hacked"] else 0,
            best=score if is_best else self.best,
            is_best=is_best,
        )

    def notes(self) -> Mapping[str, Any]:
        """The record as notes of a checkpoint."""
        return {"audits": dataclasses.asdict(self)}

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> AuditRecord:
        """The record in a checkpoint's notes; one without has no audit that is missing.

        Raises:
            CheckpointError: the notes hold something else.
        """
        noted = checkpoint.notes.get("audits")
        if noted is None:
            return cls(step=checkpoint.step)
        try:
            return cls(**noted)
        except TypeError as error:
            raise CheckpointError(
                f"{checkpoint.folder}/manifest.json has no record of audits: {error}.",
                hint="it was written by another version",
            ) from error


class Auditor(Protocol):
    """Audits checkpoints one at a time while training goes on."""

    def start(self) -> None:
        """Prepare for the first audit."""
        ...

    def begin(self, step: int) -> None:
        """Begin to audit the checkpoint of a step; none may be under way."""
        ...

    def collect(self, *, wait: bool) -> Audit | None:
        """Return the audit that was begun, once it is done; None before, and where none is.

        Args:
            wait: whether to wait until it is done.

        Raises:
            DDRLError: of the kind that fits, for an audit that failed.
        """
        ...

    def close(self) -> None:
        """End the audit that is under way, if any."""
        ...


@contextmanager
def auditing(auditor: Auditor | None, *, checkpoints: CheckpointFolder | None) -> Iterator[None]:
    """Run audits while training goes on, for as long as the context lasts.

    Args:
        auditor: audits checkpoints; None: there are no such audits.
        checkpoints: the folder that it reads.

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
        auditor.start()
        yield
    finally:
        auditor.close()
