"""Looks at rollouts before anything is learned from them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from ddrl.errors import ReplayMismatch
from ddrl.records import Trajectory
from ddrl.training.rollout import Sampler
from ddrl.training.safety.guard import Guard
from ddrl.training.update import Gradient

logger = logging.getLogger(__name__)


@dataclass
class Inspector:
    """Replays the first rollout of each sampler, and stops where samples have exploded.

    Attributes:
        guard: limits for the samples' latents.
        gradients: the gradient of each sampler, whose passes replay.
        tolerance: largest distance of a replayed ratio from 1; infinity is no limit.
        replayed: samplers whose first rollout has passed.
    """

    guard: Guard
    gradients: Sequence[Gradient]
    tolerance: float = 1e-3
    replayed: set[Sampler] = field(default_factory=set)

    def check(self, trajectory: Trajectory, sampler: Sampler, *, step: int) -> None:
        """Refuse to train on log-probabilities that the update would see differently.

        They are taken again as the update takes them, with gradient. Where ratios are to the
        update's own, these have to come out twice, and the rollout's distance is told.

        Args:
            trajectory: new samples.
            sampler: sampler that made them.
            step: iterations finished, for the message.

        Raises:
            ReplayMismatch: a ratio of the replay is farther from 1 than the tolerance.
            GuardStop: the samples have exploded, so a replay says nothing.
        """
        if sampler in self.replayed:
            return
        gradient = next(one for one in self.gradients if one.sampler is sampler)
        stored = trajectory.log_prob[:, list(sampler.trained)]
        replayed = gradient.replay(trajectory)
        if gradient.own_ratio:
            logger.info(
                "rollout and update compute in different ways, and their log-probabilities of a "
                "step differ by up to %.3g: ratios are to the update's own",
                float((replayed - stored).abs().max()),
            )
            stored, replayed = replayed, gradient.replay(trajectory)
        deviation = ((replayed - stored).exp() - 1).abs().amax(0)
        worst = int(deviation.argmax())
        off = float(deviation[worst])
        if not off <= self.tolerance:
            self.blame(trajectory, step=step)
            raise ReplayMismatch(
                f"Replaying the first rollout gives a ratio that is off by {off:.3g} at step "
                f"{sampler.trained[worst]}, above the tolerance of {self.tolerance:g}.",
                hint="the model is not deterministic (dropout, batch statistics, another dtype) "
                "or the tolerance is too tight for bfloat16: see guard.replay_tolerance",
            )
        self.replayed.add(sampler)

    def blame(self, trajectory: Trajectory, *, step: int) -> None:
        """Stop where the samples have exploded, before something else is blamed for it.

        Args:
            trajectory: samples for which a replay or a reward failed.
            step: iterations finished, for the message.

        Raises:
            GuardStop: the spread of their latents is outside the guard's limits.
        """
        spread = float(trajectory.final.float().std())
        self.guard.check({"latent_std": spread}, step=step + 1)  # outside it is counted from 1
