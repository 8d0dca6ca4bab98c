"""The gradient of eq. (L1), from a Trajectory, Advantages and an Anchor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddrl.diffusion.schedule import select_steps
from ddrl.errors import UsageError
from ddrl.objective.loss import Objective, effective_beta, step_weights
from ddrl.objective.policy import (
    clipped_ratio_loss,
    is_clipped,
    kl_to_come,
    reinforce_loss,
    return_correction,
)
from ddrl.objective.regularizer import velocity_error
from ddrl.records import Advantages, Anchor, Condition, Trajectory
from ddrl.training.draws import DataDraws, step_major
from ddrl.training.forward import Forward
from ddrl.training.rollout import Sampler, batches, chunks


class Gradient:
    """Accumulates the gradient of eq. (L1) in passes of bounded size.

    The unit of work is a (sample, step) pair. Passes go step by step over the same micro-batches
    as the rollout, so a fresh rollout is replayed exactly. ``steps_per_pass`` folds several steps
    into one pass, for small models whose calls cost more than their computation.

    Where the rollout computes in another way than the update does (compiled without gradient,
    adapter merged, another type), the two disagree on the same weights, in bfloat16 by much. With
    ``own_ratio`` a ratio then starts from the log-probability that the update's own passes give
    before any weight has moved, so that it is exactly 1 in a rollout's first update.

    Args:
        sampler: sampler of the rollouts; it has the policy, the trained steps and micro-batches.
        objective: the loss; its ``reduction`` is the sampler's.
        steps_per_pass: number of steps folded into one pass.
        reference: the frozen start, for the reference regularizer and for teacher targets.
        own_ratio: whether ratios are to the update's own log-probabilities, not to the rollout's.

    Attributes:
        beta: strength of the regularizer now.

    Raises:
        UsageError: sampler and objective reduce log-probabilities in two ways, or a step that is
            to be trained has no density.
    """

    def __init__(
        self,
        sampler: Sampler,
        objective: Objective,
        *,
        steps_per_pass: int = 1,
        reference: Forward | None = None,
        own_ratio: bool = False,
    ) -> None:
        if sampler.reduction != objective.reduction:
            raise UsageError(
                f"The sampler takes the {sampler.reduction} of a log-probability over dimensions, "
                f"and the objective the {objective.reduction}.",
                hint="pass Sampler(..., reduction=objective.reduction)",
            )
        self.sampler, self.objective, self.reference = sampler, objective, reference
        self.forward, self.transitions = sampler.forward, sampler.transitions
        self.own_ratio = own_ratio
        allowed = self.transitions.stochastic.tolist()
        self.trained = select_steps(sampler.trained or "all", allowed)
        self._device, self.steps_per_pass = sampler.device, steps_per_pass
        kl_weight = self.transitions.kl_weight
        omega = step_weights(kl_weight, self.trained, name=objective.step_weight)
        self._omega = omega.float().to(self._device)
        self._unit_weight = omega * kl_weight
        self.set_beta(objective.beta)

    def set_beta(self, beta: float) -> None:
        """Replace the objective's strength of the regularizer from now on."""
        self.beta = beta
        self._regularizer_weight = (beta * self._unit_weight).float().to(self._device)

    @property
    def effective_beta(self) -> float:
        """Strength of the regularizer by its gradient, relative to the policy term's."""
        return effective_beta(self.objective, beta=self.beta, guidance=self.forward.guidance)

    def policy(
        self,
        trajectory: Trajectory,
        advantages: Advantages,
        *,
        correction: Tensor | None = None,
        is_first: bool = True,
    ) -> dict[str, Tensor]:
        """Add the policy term's gradient, and the reference term's where that regularizes.

        Args:
            trajectory: B rollouts.
            advantages: advantages of the rollouts.
            correction: result of :meth:`return_correction` for the whole groups, where these
                rollouts are only a part of them. Default: taken over these rollouts.
            is_first: whether the weights are still those of the rollout.

        Returns:
            Metrics, as tensors that nothing has waited for.
        """
        count = advantages.keep.sum().clamp_min(1)
        if correction is None:
            correction = self.return_correction(trajectory, advantages)
        advantage = advantages.value.to(self._device)[:, None].expand(-1, len(self.transitions))
        if correction is not None:
            advantage = advantage + correction
        keep = advantages.keep.to(self._device).float()
        rows_of = list(batches(len(trajectory), self.sampler.micro_batch))
        parts: list[dict[str, Tensor]] = []
        for steps in chunks(self.trained, self.steps_per_pass):
            for rows in rows_of:
                loss, metrics = self._policy_pass(
                    trajectory, advantage, keep, rows, steps, is_first=is_first
                )
                torch.autograd.backward(loss.sum() / count)
                parts.append(metrics)
        total = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
        pairs = count * len(self.trained)
        merged = {
            name: value.max() if name == "ratio_max" else value.sum() / pairs
            for name, value in total.items()
        }
        if "reference_kl" in merged:
            merged["reference_kl"] = merged["reference_kl"] * len(self.trained)
        return merged

    def return_correction(self, trajectory: Trajectory, advantages: Advantages) -> Tensor | None:
        """Charge each step for the KL still to come, against the group's mean: shape (B, K).

        The result is None where the objective charges nothing. Take it over whole groups, before
        they are split: the mean of one sample is that sample, and nothing would be charged.
        """
        if not self.objective.kl_in_return:
            return None
        assert trajectory.reference_kl is not None
        keep = advantages.keep.to(self._device)[:, None].float()
        to_come = kl_to_come(trajectory.reference_kl) * keep
        num_groups = len(trajectory.condition)
        zeros = to_come.new_zeros(num_groups, to_come.shape[1])
        total = zeros.index_add(0, trajectory.group, to_come)
        size = zeros[:, :1].index_add(0, trajectory.group, keep).clamp_min(1)
        correction = return_correction(
            trajectory.reference_kl, (total / size)[trajectory.group], beta=self.beta
        )
        return correction * keep

    def _policy_pass(
        self,
        trajectory: Trajectory,
        advantage: Tensor,
        kept: Tensor,
        rows: slice,
        steps: Sequence[int],
        *,
        is_first: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of each (step, sample) pair of one pass, and sums of its metrics."""
        objective = self.objective
        now = self.sampler.evaluate(trajectory, rows, steps)
        log_prob = now.log_prob
        drawn = torch.cat([trajectory.log_prob[rows, k] for k in steps])
        behaviour = log_prob.detach() if self.own_ratio and is_first else drawn
        pair_advantage = torch.cat([advantage[rows, k] for k in steps])
        keep = kept[rows].repeat(len(steps))
        ratio = (log_prob - behaviour).exp()
        bound = {"clip_low": objective.clip_low, "clip_high": objective.clip_high}
        is_clipping = objective.policy == "grpo"
        if is_clipping:
            loss = clipped_ratio_loss(ratio, pair_advantage, **bound)
        else:
            loss = reinforce_loss(log_prob, pair_advantage)
        loss = loss * self._omega[now.step]
        with torch.no_grad():
            values = {"policy_loss": loss, "ratio_deviation": (ratio - 1).abs()}
            if self.own_ratio and is_first:
                values["rollout_deviation"] = (behaviour - drawn).abs()
            if is_clipping:
                values["clip_fraction"] = is_clipped(ratio, pair_advantage, **bound).float()
            sums = torch.stack(list(values.values())) @ keep
            metrics = dict(zip(values, sums, strict=True))
            metrics["ratio_max"] = (ratio * keep).max()
        if objective.regularizer == "reference":
            assert self.reference is not None
            with torch.no_grad():
                target = self.reference(now.x_t, now.time, now.condition)
            error = velocity_error(now.velocity, target, reduction=objective.reduction)
            loss = loss + self._regularizer_weight[now.step] * error
            metrics["reference_kl"] = (
                self.sampler.kl_weight[now.step] * error.detach() * keep
            ).sum()
        return loss * keep, metrics

    def replay(self, trajectory: Trajectory) -> Tensor:
        """Take the log-probabilities of the trained steps again, as an update does.

        Args:
            trajectory: B rollouts.

        Returns:
            log p of these steps, shape (B, trained steps).
        """
        return self.sampler.replay(
            trajectory, steps=self.trained, steps_per_pass=self.steps_per_pass, has_gradient=True
        )

    def data(
        self, anchor: Anchor, *, step: int, num_anchors: int | None = None
    ) -> dict[str, Tensor]:
        """Add the data term's gradient, eq. (T4).

        Its target is the data's velocity (P2), or with ``data_target="teacher"`` the velocity of
        the frozen start at the same noised data. A teacher holds the policy to its start where the
        data are. It keeps few-step models intact, whose velocity is not that of any data.

        Args:
            anchor: M clean samples.
            step: number of the iteration; it names the randomness.
            num_anchors: number of anchors in the whole iteration, above all sample ids; default: M.

        Returns:
            Metrics, as tensors that nothing has waited for.
        """
        draws = DataDraws.make(
            anchor,
            self.objective,
            times=self.transitions.times,
            trained=self.trained,
            seed=self.sampler.seed,
            step=step,
            num_anchors=len(anchor) if num_anchors is None else num_anchors,
            device=self._device,
        )
        num_rows = draws.time.shape[1]
        sums, weighted_sums = [], []
        for columns in batches(num_rows, self.steps_per_pass):
            for rows in batches(len(anchor), self.sampler.micro_batch):
                error = self._data_pass(anchor, draws, rows, columns)
                weight = draws.weight[rows, columns]
                weight = weight * self._regularizer_weight[draws.step[rows, columns]]
                loss = (step_major(weight) * error).sum() / len(anchor)
                torch.autograd.backward(loss)
                sums.append(error.detach().sum())
                weighted_sums.append(loss.detach())
        dimensions = anchor.x0[0].numel() if self.objective.reduction == "sum" else 1
        return {
            "data_loss": torch.stack(sums).sum() / (len(anchor) * num_rows * dimensions),
            "data_term": torch.stack(weighted_sums).sum(),
        }

    def _data_pass(self, anchor: Anchor, draws: DataDraws, rows: slice, columns: slice) -> Tensor:
        """Return ||v_theta - v||^2 of each (step, sample) pair of one pass."""
        objective, process = self.objective, self.forward.model.process
        repeat = columns.stop - columns.start
        t, eps = step_major(draws.time[rows, columns]), draws.noise(rows, columns)
        x0 = anchor.x0[rows].repeat(repeat, *[1] * (anchor.x0.ndim - 1))
        condition = anchor.condition[rows]
        if repeat > 1:
            condition = condition.repeat(repeat)
        if objective.condition_dropout:
            dropped = step_major(draws.dropped[rows, columns])
            condition = condition.where(dropped, self.forward.empty)
        x_t = process.add_noise(x0, eps, t)
        if objective.data_target == "teacher":
            target = self._teacher(x_t, t, condition)
        else:
            target = process.velocity(x0, eps, t)
        velocity = self.forward.plain(x_t, t, condition)
        return velocity_error(velocity, target, reduction=objective.reduction)

    @torch.no_grad()
    def _teacher(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Return the frozen start's velocity; like the data term it is never guided."""
        assert self.reference is not None
        return self.reference.plain(x_t, t, condition)
