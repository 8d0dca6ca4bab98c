"""Sets beta so that drift stays within a budget, which a user can choose in place of beta."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ddrl.errors import CheckpointError

MAX_FACTOR = 1.5
"""Largest factor of beta in one correction."""
MAX_RANGE = 1e3
"""Beta stays within this factor of where it began, both ways."""


@dataclass
class DriftBudget:
    """A proportional-integral controller of log beta on the drift of the averaged weights.

    At each correction, with e = (drift - budget) / budget and its change since the one before,

        log beta += gain e + damping (e - e_before),

    at most a factor of 1.5 at once. Log beta is the integral of e, so drift comes to rest at the
    budget; the second term answers to a drift that still moves. Runs whose drift stays
    below the budget whatever beta is end at the smallest beta allowed.

    Args:
        measure: returns the drift: the change of the diffusion loss since the start, as a share.
        budget: drift to come to rest at, as a share; above 0.
        beta: strength of the regularizer at the start.
        every: iterations between corrections.
        gain: weight of the deviation e.
        damping: weight of the change of e.

    Attributes:
        beta: strength of the regularizer now.
    """

    measure: Callable[[], float]
    budget: float
    beta: float
    every: int = 5
    gain: float = 0.15
    damping: float = 0.5
    _start: float = field(init=False)
    _before: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._start = self.beta

    def is_due(self, step: int) -> bool:
        """Return whether beta is corrected after this iteration."""
        return step % self.every == 0

    def correct(self) -> dict[str, float]:
        """Measure the drift, set ``beta``, and return both as metrics."""
        drift = self.measure()
        error = 10.0 if math.isnan(drift) else (drift - self.budget) / self.budget
        change = 0.0 if self._before is None else error - self._before
        step = self.gain * error + self.damping * change
        limit = math.log(MAX_FACTOR)
        beta = self.beta * math.exp(min(limit, max(-limit, step)))
        self.beta = min(self._start * MAX_RANGE, max(self._start / MAX_RANGE, beta))
        self._before = error
        return {"budget_drift": drift, "beta": self.beta}

    def state_dict(self) -> dict[str, float | None]:
        """Return the state that a resumed run needs."""
        return {"beta": self.beta, "before": self._before}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        """Continue from a state.

        Raises:
            CheckpointError: the state is of a run without a budget.
        """
        beta = state.get("beta")
        if beta is None:
            raise CheckpointError(
                "The checkpoint has no beta of a drift budget.",
                hint="it is of a run without objective.drift_budget: take another run.folder",
            )
        self.beta, self._before = beta, state.get("before")
