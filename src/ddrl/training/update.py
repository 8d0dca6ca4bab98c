"""One optimizer step from a Trajectory, Advantages and an Anchor: eq. (L1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.diffusion.transition import Transitions, step_log_prob
from ddrl.objective.loss import Objective, step_weights
from ddrl.objective.policy import (
    clipped_ratio_loss,
    is_clipped,
    kl_to_come,
    reinforce_loss,
    return_correction,
)
from ddrl.objective.regularizer import draw_times, velocity_error
from ddrl.records import Advantages, Anchor, Trajectory
from ddrl.seeding import generator, sample_noise
from ddrl.training.forward import Forward
from ddrl.training.rollout import batches

__all__ = ["Gradient"]


class Gradient:
    """Accumulates the gradient of eq. (L1) in passes of bounded size.

    The unit of work is a (sample, step) pair. Passes go step by step over the same micro-batches
    as the rollout, so that a fresh rollout is replayed exactly; ``steps_per_pass`` folds several
    steps into one pass where the model is small and calls are what costs.

    Args:
        forward: the policy.
        objective: the loss.
        transitions: the rollout's.
        trained: trained steps.
        seed: of the run; names the data term's noise, times and text dropout.
        micro_batch: samples per pass, 0 for all.
        steps_per_pass: steps folded into one pass.
        reference: the reference policy, for its regularizer.
        device: where the model is.
    """

    def __init__(
        self,
        forward: Forward,
        *,
        objective: Objective,
        transitions: Transitions,
        trained: tuple[int, ...],
        seed: int,
        micro_batch: int = 0,
        steps_per_pass: int = 1,
        reference: Forward | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.forward, self.objective, self.reference = forward, objective, reference
        self.transitions, self.trained = transitions, trained
        self._seed, self._device = seed, device
        self._micro_batch, self._steps_per_pass = micro_batch, steps_per_pass
        kl_weight = transitions.kl_weight
        omega = step_weights(kl_weight, trained, name=objective.step_weight)
        self._omega = omega.float().to(device)
        self._kl_weight = kl_weight.float().to(device)
        self._regularizer_weight = (objective.beta * omega * kl_weight).float().to(device)
        self._times = transitions.times.float().to(device)

    def policy(
        self,
        trajectory: Trajectory,
        advantages: Advantages,
        *,
        correction: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Add the policy term's gradient, and the reference term's where that regularizes.

        Args:
            trajectory: B rollouts.
            advantages: of them.
            correction: what :meth:`return_correction` gave for the whole groups, where these are
                only a part of them. Default: taken over these rollouts.

        Returns:
            Metrics, as tensors that nothing has waited for.
        """
        count = advantages.keep.sum().clamp_min(1)
        if correction is None:
            correction = self.return_correction(trajectory, advantages)
        advantage = advantages.value.to(self._device)[:, None].expand(-1, len(self.transitions))
        if correction is not None:
            advantage = advantage + correction
        rows_of = list(batches(len(trajectory), self._micro_batch))
        parts: list[dict[str, Tensor]] = []
        for steps in _chunks(self.trained, self._steps_per_pass):
            for rows in rows_of:
                loss, metrics = self._policy_pass(trajectory, advantage, advantages, rows, steps)
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

        None where the objective does not. Take it over whole groups, before they are split: the
        mean of one sample is that sample, and nothing would be charged.
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
            trajectory.reference_kl, (total / size)[trajectory.group], beta=self.objective.beta
        )
        return correction * keep

    def _policy_pass(
        self,
        trajectory: Trajectory,
        advantage: Tensor,
        advantages: Advantages,
        rows: slice,
        steps: Sequence[int],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each (step, sample) pair of one pass, and sums of its metrics."""
        objective = self.objective
        size = rows.stop - rows.start
        index = torch.tensor(steps).repeat_interleave(size)
        x_t = torch.cat([trajectory.latents[rows, k] for k in steps]).float()
        x_s = torch.cat([trajectory.latents[rows, k + 1] for k in steps]).float()
        condition = trajectory.condition[trajectory.group[rows].repeat(len(steps))]
        times, omega = self._times[index], self._omega[index]
        velocity = self.forward(x_t, times, condition)
        log_prob = step_log_prob(
            self.transitions.step(index, device=self._device),
            x_s,
            x_t,
            velocity,
            reduction=objective.reduction,
        )
        behaviour = torch.cat([trajectory.log_prob[rows, k] for k in steps])
        pair_advantage = torch.cat([advantage[rows, k] for k in steps])
        keep = advantages.keep[rows].to(self._device).repeat(len(steps)).float()
        ratio = (log_prob - behaviour).exp()
        bound = {"clip_low": objective.clip_low, "clip_high": objective.clip_high}
        if objective.policy == "grpo":
            loss = clipped_ratio_loss(ratio, pair_advantage, **bound)
        else:
            loss = reinforce_loss(log_prob, pair_advantage)
        loss = loss * omega
        with torch.no_grad():
            clipped = is_clipped(ratio, pair_advantage, **bound)
            values = torch.stack([loss, (ratio - 1).abs(), clipped.float()])
            names = ("policy_loss", "ratio_deviation", "clip_fraction")
            metrics = dict(zip(names, values @ keep, strict=True))
            metrics["ratio_max"] = (ratio * keep).max()
        if objective.regularizer == "reference":
            assert self.reference is not None
            with torch.no_grad():
                target = self.reference(x_t, times, condition)
            error = velocity_error(velocity, target, reduction=objective.reduction)
            loss = loss + self._regularizer_weight[index] * error
            metrics["reference_kl"] = (self._kl_weight[index] * error.detach() * keep).sum()
        return loss * keep, metrics

    def data(self, anchor: Anchor, *, step: int, num_anchors: int) -> dict[str, Tensor]:
        """Add the data term's gradient, eq. (T4).

        Args:
            anchor: M clean samples.
            step: the iteration, which names the randomness.
            num_anchors: anchors of the whole iteration; sample ids are below it.

        Returns:
            Metrics, as tensors that nothing has waited for.
        """
        objective, process = self.objective, self.forward.model.process
        draws = self._draw(anchor, step=step, num_anchors=num_anchors)
        num_rows = draws.time.shape[1]
        sums, weighted_sums = [], []
        for columns in batches(num_rows, self._steps_per_pass):
            for rows in batches(len(anchor), self._micro_batch):
                repeat = columns.stop - columns.start
                t = _step_major(draws.time[rows, columns])
                eps = _step_major(draws.noise[rows, columns])
                x0 = anchor.x0[rows].repeat(repeat, *[1] * (anchor.x0.ndim - 1))
                condition = anchor.condition[rows]
                if repeat > 1:
                    condition = condition[
                        torch.arange(len(x0), device=x0.device) % (len(condition))
                    ]
                if objective.condition_dropout:
                    condition = condition.where(
                        _step_major(draws.dropped[rows, columns]), self.forward.empty
                    )
                velocity = self.forward.plain(process.add_noise(x0, eps, t), t, condition)
                error = velocity_error(
                    velocity, process.velocity(x0, eps, t), reduction=objective.reduction
                )
                loss = (_step_major(draws.weight[rows, columns]) * error).sum() / len(anchor)
                torch.autograd.backward(loss)
                sums.append(error.detach().sum())
                weighted_sums.append(loss.detach())
        dimensions = anchor.x0[0].numel() if objective.reduction == "sum" else 1
        return {
            "data_loss": torch.stack(sums).sum() / (len(anchor) * num_rows * dimensions),
            "data_term": torch.stack(weighted_sums).sum(),
        }

    def _draw(self, anchor: Anchor, *, step: int, num_anchors: int) -> _Draws:
        """Draw times, noise and dropout for R rows of every data sample."""
        num_rows = len(self.trained) if self.objective.data_per_step == "all" else 1
        # One table for the iteration, so that a sample's draws do not depend on the batch.
        table = torch.rand(
            (num_anchors, 2, num_rows), generator=generator(self._seed, "anchor", step)
        )[anchor.sample_id.cpu()]
        noise = sample_noise(
            (num_rows, *anchor.x0.shape[1:]),
            run_seed=self._seed,
            purpose="anchor",
            step=step,
            sample_ids=anchor.sample_id.tolist(),
        )
        drawn = draw_times(
            self.transitions.times,
            self.trained,
            table[:, 0],
            law=self.objective.data_times,
            per_sample=self.objective.data_per_step,
        )
        shape = (len(anchor), num_rows)
        index = drawn.step.reshape(shape).to(self._device)
        return _Draws(
            time=drawn.time.reshape(shape).to(self._device),
            weight=drawn.weight.reshape(shape).to(self._device) * self._regularizer_weight[index],
            noise=noise.to(self._device),
            dropped=(table[:, 1] < self.objective.condition_dropout).to(self._device),
        )


@dataclass(frozen=True)
class _Draws:
    """The data term's randomness: R rows per data sample, all fields of shape (M, R, ...)."""

    time: Tensor
    weight: Tensor
    noise: Tensor
    dropped: Tensor


def _step_major(x: Tensor) -> Tensor:
    """(samples, steps, ...) to (steps * samples, ...)."""
    return x.transpose(0, 1).flatten(0, 1)


def _chunks(steps: tuple[int, ...], size: int) -> list[tuple[int, ...]]:
    return [steps[i : i + size] for i in range(0, len(steps), size)]
