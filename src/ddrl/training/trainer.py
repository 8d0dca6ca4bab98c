"""The outer loop: the paper's algorithm box.

for each iteration:
    deal prompts and anchor data
    roll out the policy, and score the samples
    turn rewards into advantages
    for each minibatch: gradient of eq. (L1), one optimizer step
        average the weights
    where drift has a budget, now and then: measure it, and correct beta

Audits measure the weights further; the loop asks for them when the iteration is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.data.groups import Dealer
from ddrl.data.sized import SizedDealer
from ddrl.records import Advantages
from ddrl.training.collect import Collector
from ddrl.training.forward import Forward
from ddrl.training.learner import Learner
from ddrl.training.logs.clock import Clock
from ddrl.training.logs.metrics import merge
from ddrl.training.logs.shown import Shown
from ddrl.training.minibatch import Minibatch, prepared, split
from ddrl.training.rollout import Sampler
from ddrl.training.safety.auditing import Audit
from ddrl.training.safety.watch import Watch

AdvantageFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Advantages]
"""(rewards (B,), group (B,), keep (B,), prompt_id (G,)) -> Advantages."""


@contextmanager
def _undone_if_it_fails() -> Iterator[None]:
    """Put torch's global generator back where a step fails, so that it can be made again.

    A reward may draw from it before it fails, or before another one does.
    """
    before = torch.get_rng_state()
    try:
        yield
    except BaseException:
        torch.set_rng_state(before)
        raise


@dataclass
class Trainer:
    """The parts of an iteration.

    Attributes:
        dealer: chooses prompts and data of each iteration.
        collector: samples the policy and has the samples scored.
        advantage: turns rewards into advantages.
        learner: changes the weights.
        watch: measures the run, and stops it where it goes wrong.
        num_updates: optimizer steps per rollout.
        step: iterations finished.
        shown: a few small pictures of the newest rollout; None before the first.
    """

    dealer: Dealer | SizedDealer
    collector: Collector
    advantage: AdvantageFunction
    learner: Learner
    watch: Watch
    num_updates: int = 1
    step: int = 0
    shown: Shown | None = None

    @property
    def sampler(self) -> Sampler:
        """The sampler of the first size."""
        return self.collector.samplers[0]

    @property
    def forward(self) -> Forward:
        """The policy."""
        return self.learner.forward

    @_undone_if_it_fails()
    def iteration(self) -> dict[str, float]:
        """Run one iteration and return its metrics, which the guard is still to check.

        Raises:
            GuardStop: an update went wrong; the policy may be spoiled, checkpoints are not.
            RewardError: a reward failed where that is not allowed.
        """
        clock, updates, metrics = Clock(), list[dict[str, float]](), dict[str, float]()
        hand, objective = self.dealer.deal(self.step), self.learner.objective
        gradient = self.learner.gradients[hand.size]
        anchor = self.collector.anchor(hand) if objective.regularizer == "data" else None
        batch = Minibatch(anchor=anchor)
        if objective.policy != "none":
            found = self.collector.collect(hand, step=self.step, clock=clock)
            advantages = self.advantage(*found.rewards, hand.prompt_id)
            correction = gradient.return_correction(found.trajectory, advantages)
            batch = Minibatch(found.trajectory, advantages, anchor, correction=correction)
            metrics, self.shown = found.metrics(advantages, gradient.effective_beta), found.shown
        with clock("update"):
            for part in prepared(split(batch, self.num_updates), gradient):
                updates.append(self.learner.update(part, size=hand.size, step=self.step))
                self.learner.ema.update()
        self.step += 1
        return {**metrics, **merge(updates), **clock.metrics(), **self.watch(self.step)}

    @_undone_if_it_fails()
    def audit(self) -> Audit:
        """Have the monitor measure the averaged weights.

        Raises:
            RewardError: a reward failed where that is not allowed.
            GuardStop: there is nothing left to measure.
        """
        return self.watch.audit(self.step)
