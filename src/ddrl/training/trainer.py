"""The outer loop: the paper's algorithm box.

for each iteration:
    deal prompts and anchor data
    roll out the policy
    score the samples, and turn rewards into advantages
    for each minibatch: gradient of eq. (L1), one optimizer step
    average the weights
    where drift has a budget, now and then: measure it, and correct beta

What else is measured of the weights is an audit, which the loop asks for when the iteration is
recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ddrl.data.groups import Dealer
from ddrl.data.sized import SizedDealer
from ddrl.errors import ReplayMismatch
from ddrl.models.ema import EMA
from ddrl.objective.loss import Objective
from ddrl.records import Advantages, Trajectory
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.training.collect import Collector, RolloutSettings
from ddrl.training.forward import Forward
from ddrl.training.logs.metrics import merge, reward_metrics
from ddrl.training.logs.shown import Shown, as_shown
from ddrl.training.minibatch import Minibatch, split
from ddrl.training.pool import Pool
from ddrl.training.rollout import replay
from ddrl.training.safety.auditing import Audit, Auditor, AuditRecord, Monitor
from ddrl.training.safety.budget import DriftBudget
from ddrl.training.safety.guard import Guard
from ddrl.training.update import Gradient

AdvantageFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Advantages]
"""(rewards (B,), group (B,), keep (B,), prompt_id (G,)) -> Advantages."""


@contextmanager
def _undone_if_it_fails() -> Iterator[None]:
    """Put torch's global generator back, so that what is saved then goes on as if not begun.

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
    """Everything an iteration needs, passed in.

    Attributes:
        forward: the policy.
        pool: prompts and data.
        dealer: which of them each iteration takes.
        scorer: rewards.
        advantage: rewards to advantages.
        objective: the loss.
        settings: how to sample; of the first size, where there are several.
        optimizer: over the trainable parameters.
        scheduler: of the learning rate, stepped with the optimizer.
        ema: averaged weights, updated with the optimizer.
        seed: of the run.
        grad_clip: largest gradient norm; 0 leaves gradients alone.
        reference: the frozen start, for the ``reference`` regularizer and teacher targets.
        guard: limits past which the run stops.
        budget: of drift, which sets beta.
        monitor: audits the averaged weights every ``monitor_every`` iterations; the loop asks.
        monitor_every: 0 is never.
        auditor: audits checkpoints beside training, in place of the monitor; the loop asks it.
        audits: what is known of the audits so far; the loop keeps it.
        device: where the model is.
        by_size: how to sample each size; empty where there is one.
        step: iterations finished.
        shown: a few small pictures of the newest rollout.
    """

    forward: Forward
    pool: Pool
    dealer: Dealer | SizedDealer
    scorer: Scorer
    advantage: AdvantageFunction
    objective: Objective
    settings: RolloutSettings
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    ema: EMA
    seed: int
    grad_clip: float = 0.0
    reference: Forward | None = None
    guard: Guard = field(default_factory=Guard)
    budget: DriftBudget | None = None
    monitor: Monitor | None = None
    monitor_every: int = 0
    auditor: Auditor | None = None
    audits: AuditRecord = field(default_factory=AuditRecord)
    device: torch.device | str = "cpu"
    by_size: tuple[RolloutSettings, ...] = ()
    step: int = 0
    shown: Shown | None = None
    _replay_checked: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._sizes = self.by_size or (self.settings,)
        self._gradients = [
            Gradient(
                self.forward,
                objective=self.objective,
                transitions=settings.transitions,
                trained=settings.trained,
                seed=self.seed,
                micro_batch=settings.micro_batch,
                steps_per_pass=settings.steps_per_pass,
                reference=self.reference,
                device=self.device,
            )
            for settings in self._sizes
        ]
        self._parameters = [
            p for p in self.forward.model.transformer.parameters() if p.requires_grad
        ]

    @_undone_if_it_fails()
    def iteration(self) -> dict[str, float]:
        """Run one iteration and return its metrics, which the guard is still to check.

        Raises:
            GuardStop: an update went wrong; the policy may be spoiled, checkpoints are not.
            RewardError: a reward failed where that is not allowed.
        """
        start = time.perf_counter()
        hand = self.dealer.deal(self.step)
        gradient = self._gradients[hand.size]
        anchor = None
        if self.objective.regularizer == "data":
            anchor = self.pool.anchor(hand.anchor_row, device=self.device)
        trajectory, advantages = None, None
        metrics: dict[str, float] = {"size": float(hand.size)} if self.by_size else {}
        if self.objective.policy != "none":
            collected = self._collector(hand.size).collect(
                hand,
                step=self.step,
                check=partial(self._check_replay, size=hand.size),
                blame=self._check_samples,
            )
            trajectory, scores = collected.trajectory, collected.scores
            few = hand.prompt_id[: len(collected.pictures)].tolist()
            texts = self.pool.prompts.select(few).text
            self.shown = as_shown(self.step + 1, "rollout", texts, collected.pictures)
            advantages = self.advantage(
                scores.combined, trajectory.group.cpu(), scores.valid, hand.prompt_id
            )
            metrics |= reward_metrics(
                scores,
                advantages,
                trajectory.group.cpu(),
                trajectory.final,
                gradient.effective_beta,
            )
            metrics |= {
                "seconds/rollout": collected.rollout_seconds,
                "seconds/reward": collected.reward_seconds,
            }
        update_start = time.perf_counter()
        correction = None
        if trajectory is not None and advantages is not None:
            correction = gradient.return_correction(trajectory, advantages)
        batch = Minibatch(trajectory, advantages, anchor, correction=correction)
        updates = [
            self._update(part, gradient, num_anchors=0 if anchor is None else len(anchor))
            for part in split(batch, self.settings.num_updates)
        ]
        metrics |= merge(updates)
        self.step += 1
        end = time.perf_counter()
        metrics |= {"seconds/update": end - update_start, "seconds": end - start}
        if self.budget is not None and self.budget.is_due(self.step):
            with self.ema.applied():
                metrics |= self.budget.correct()
            self.set_beta(self.budget.beta)
        return metrics

    def set_beta(self, beta: float) -> None:
        """Give the regularizer another strength from the next iteration on."""
        for gradient in self._gradients:
            gradient.set_beta(beta)

    @_undone_if_it_fails()
    def audit(self) -> Audit:
        """Have the monitor measure the averaged weights.

        Raises:
            RewardError: a reward failed where that is not allowed.
            GuardStop: there is nothing left to measure.
        """
        assert self.monitor is not None
        with self.ema.applied():
            return self.monitor(self.step)

    def _collector(self, size: int) -> Collector:
        objective = self.objective
        return Collector(
            self.forward,
            self.pool,
            self.scorer,
            self._sizes[size],
            self.seed,
            reduction=objective.reduction,
            reference=self.reference if objective.kl_in_return else None,
            device=self.device,
        )

    def _check_replay(self, trajectory: Trajectory, *, size: int) -> None:
        """Refuse to train on log-probabilities that the update would see differently.

        Of each size the first rollout is replayed.
        """
        if size in self._replay_checked:
            return
        settings = self._sizes[size]
        again = replay(
            self.forward,
            trajectory,
            transitions=settings.transitions,
            steps=settings.trained,
            micro_batch=settings.micro_batch,
            reduction=self.objective.reduction,
        )
        stored = trajectory.log_prob[:, list(settings.trained)]
        deviation = ((again - stored).exp() - 1).abs().amax(0)
        worst = int(deviation.argmax())
        off = float(deviation[worst])
        if not off <= settings.replay_tolerance:
            self._check_samples(trajectory)
            raise ReplayMismatch(
                f"Replaying the first rollout gives a ratio that is off by {off:.3g} at step "
                f"{settings.trained[worst]}, above the tolerance of {settings.replay_tolerance:g}.",
                hint="the model is not deterministic (dropout, batch statistics, another dtype) "
                "or the tolerance is too tight for bfloat16: see guard.replay_tolerance",
            )
        self._replay_checked.add(size)

    def _check_samples(self, trajectory: Trajectory) -> None:
        """Blame the policy for samples that have exploded, and not what could not bear them."""
        self.guard.check({"latent_std": float(trajectory.final.float().std())}, step=self.step + 1)

    def _update(
        self, batch: Minibatch, gradient: Gradient, *, num_anchors: int
    ) -> dict[str, float]:
        """One optimizer step. Everything is read from the device once, before the step."""
        self.optimizer.zero_grad(set_to_none=True)
        tensors: dict[str, Tensor] = {}
        if batch.trajectory is not None and batch.advantages is not None:
            tensors |= gradient.policy(
                batch.trajectory, batch.advantages, correction=batch.correction
            )
        if batch.anchor is not None:
            tensors |= gradient.data(batch.anchor, step=self.step, num_anchors=num_anchors)
        tensors["grad_norm"] = torch.nn.utils.get_total_norm(
            [p.grad for p in self._parameters if p.grad is not None]
        )
        metrics = dict(zip(tensors, torch.stack(list(tensors.values())).tolist(), strict=True))
        metrics["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        self.guard.check(metrics, step=self.step + 1)  # iterations are counted from 1 outside
        if self.grad_clip:
            torch.nn.utils.clip_grads_with_norm_(
                self._parameters, self.grad_clip, tensors["grad_norm"]
            )
        self.optimizer.step()
        self.scheduler.step()
        self.ema.update()
        return metrics
