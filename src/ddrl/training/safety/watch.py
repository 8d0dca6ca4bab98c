"""Measures a run while it trains, and acts on what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field

from ddrl.training.learner import Learner
from ddrl.training.safety.auditing import Audit, Auditor, AuditRecord, Monitor
from ddrl.training.safety.budget import DriftBudget
from ddrl.training.safety.guard import Guard


@dataclass
class Watch:
    """Watches a run: a guard, a drift budget, and audits.

    Attributes:
        learner: learner whose averaged weights are measured.
        budget: sets beta by the drift of the averaged weights; None: beta stays.
        every: iterations between audits; 0 is never.
        monitor: audits the averaged weights while training waits.
        auditor: audits checkpoints while training goes on, in place of the monitor.
        audits: record of the audits so far.
    """

    learner: Learner
    budget: DriftBudget | None = None
    every: int = 0
    monitor: Monitor | None = None
    auditor: Auditor | None = None
    audits: AuditRecord = field(default_factory=AuditRecord)

    @property
    def guard(self) -> Guard:
        """Limits past which the run stops."""
        return self.learner.guard

    def __call__(self, step: int) -> dict[str, float]:
        """Correct beta by the drift, where that is due after a step.

        Returns:
            Drift and beta as metrics; empty where nothing is due.
        """
        if self.budget is None or not self.budget.is_due(step):
            return {}
        with self.learner.ema.applied():
            metrics = self.budget.correct()
        self.learner.set_beta(self.budget.beta)
        return metrics

    def audit(self, step: int) -> Audit:
        """Have the monitor measure the averaged weights.

        Raises:
            RewardError: a reward failed where that is not allowed.
            GuardStop: there is nothing left to measure.
        """
        assert self.monitor is not None
        with self.learner.ema.applied():
            return self.monitor(step)

    def is_due(self, step: int) -> bool:
        """Return whether a step has to be audited and has not been."""
        return self.audits.is_due(step, self.every)
