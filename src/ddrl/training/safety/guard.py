"""Stops a run that goes wrong, before it spends more, and says why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ddrl.errors import GuardStop
from ddrl.training.safety.auditing import AuditRecord


@dataclass(frozen=True)
class Guard:
    """Limits; 0 switches a limit off. Numbers that are not finite always stop the run.

    Attributes:
        max_grad_norm: largest norm of the gradient before clipping.
        max_ratio: largest rho between policy and behaviour.
        max_latent_std: largest standard deviation of the samples' latents; above it they explode.
        min_latent_std: smallest standard deviation; below it samples collapse to one colour.
        max_drift: largest rise of the held-out diffusion loss above the base's, as a share.
        stop_hacked: number of audits in a row that have to say hacked; one may be bad luck.
    """

    max_grad_norm: float = 1e4
    max_ratio: float = 1e3
    max_latent_std: float = 10.0
    min_latent_std: float = 1e-3
    max_drift: float = 0.0
    stop_hacked: int = 0

    def check(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Check one iteration's (or update's) metrics.

        Raises:
            GuardStop: a limit is passed; the message names metric, value, limit and step.
        """
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise GuardStop(
                    f"{name} is {value} at step {step}: training has diverged.",
                    hint="a lower learning rate or float32 usually helps",
                )
        for name, limit, hint in (
            ("grad_norm", self.max_grad_norm, "lower optimizer.learning_rate"),
            ("ratio_max", self.max_ratio, "lower optimizer.learning_rate or use fewer updates"),
            ("latent_std", self.max_latent_std, "the samples explode; raise objective.beta"),
            (
                "heldout_loss_change",
                self.max_drift,
                "the policy leaves the data: raise objective.beta, or train for fewer steps",
            ),
        ):
            value = metrics.get(name, -math.inf)
            if limit and value > limit:
                raise GuardStop(
                    f"{name} is {value:.4g} at step {step}, above the guard's limit of {limit:g}.",
                    hint=hint,
                )
        if metrics.get("latent_std", math.inf) < self.min_latent_std:
            raise GuardStop(
                f"latent_std is {metrics['latent_std']:.2g} at step {step}: the samples have "
                "collapsed.",
                hint="raise objective.beta",
            )

    def check_audits(self, record: AuditRecord, sentence: str) -> None:
        """Stop where several audits in a row say that the reward is hacked.

        Args:
            record: record of the audits, including the newest.
            sentence: verdict of the newest audit.

        Raises:
            GuardStop: so many audits in a row said hacked.
        """
        if self.stop_hacked and record.hacked >= self.stop_hacked:
            kept = "; the best checkpoint by the audit is kept: see --step best"
            raise GuardStop(
                f"Reward and audit have parted at {record.hacked} audits in a row: {sentence}",
                hint="raise objective.beta, or train for fewer steps"
                + ("" if record.best is None else kept),
            )
