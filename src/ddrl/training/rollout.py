"""Sampling: prompts to a Trajectory with the log-probability of every step, or to x0 alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.diffusion.solvers import Solver, solve
from ddrl.diffusion.transition import Reduction, Transitions, step_log_prob, step_sample
from ddrl.objective.regularizer import velocity_error
from ddrl.records import Condition, Trajectory
from ddrl.seeding import sample_noise
from ddrl.training.forward import Forward

Drawing = Callable[[int], AbstractContextManager[Forward]]


def batches(length: int, size: int) -> Iterator[slice]:
    """Cover ``range(length)`` by slices of at most ``size`` (0: everything at once)."""
    size = size or length
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def chunks(steps: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """Cover steps by tuples of at most ``size``."""
    for start in range(0, len(steps), size):
        yield tuple(steps[start : start + size])


def rows_by_size(size_id: Tensor, size: int) -> Iterator[Tensor]:
    """Cover all rows by row numbers of one size each, at most ``size`` (0: all of a size).

    Args:
        size_id: size of every row, shape (N,).
        size: largest number of rows in a batch.
    """
    for one in sorted(set(size_id.tolist())):
        rows = (size_id == one).nonzero().flatten()
        yield from (rows[some] for some in batches(len(rows), size))


@dataclass(frozen=True)
class Evaluated:
    """What the policy does at some steps of some samples, N pairs, step by step.

    Attributes:
        step: number of the step, shape (N,).
        x_t: where the step came from, shape (N, ...).
        time: its time, shape (N,).
        condition: length N.
        velocity: of the policy, shape (N, ...).
        log_prob: of the step that was taken, shape (N,).
    """

    step: Tensor
    x_t: Tensor
    time: Tensor
    condition: Condition
    velocity: Tensor
    log_prob: Tensor


class Sampler:
    """Samples trajectories of one size, and takes the log-probabilities of their steps again.

    Args:
        forward: the policy.
        transitions: coefficients of all K steps.
        latent_shape: shape of one sample's latents.
        seed: seed of the run; with step and sample number it names all noise.
        trained: numbers of the steps to learn from; default: every step that has a density.
        micro_batch: samples per forward pass, 0 for all.
        reduction: how log-probabilities go over the latent dimensions, as the objective has it.
        storage_dtype: dtype of stored latents.
        reference: policy to which :meth:`rollout` also takes the KL of every step, eq. (T3).
        drawing: makes the policy that rollouts are drawn with, by the number of the iteration; the
            same policy, made faster. Default: ``forward`` as it is.
        device: where the model is.
    """

    def __init__(
        self,
        forward: Forward,
        transitions: Transitions,
        *,
        latent_shape: Sequence[int],
        seed: int,
        trained: Sequence[int] | None = None,
        micro_batch: int = 0,
        reduction: Reduction = "sum",
        storage_dtype: torch.dtype = torch.float32,
        reference: Forward | None = None,
        drawing: Drawing | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.forward, self.reference, self.drawing = forward, reference, drawing
        self.transitions, self.latent_shape = transitions, tuple(latent_shape)
        with_density = transitions.stochastic.nonzero().flatten().tolist()
        self.trained: tuple[int, ...] = tuple(with_density if trained is None else trained)
        self.seed, self.micro_batch, self.reduction = seed, micro_batch, reduction
        self.storage_dtype, self.device = storage_dtype, device

    @torch.no_grad()
    def rollout(
        self,
        condition: Condition,
        group: Tensor,
        *,
        step: int,
        sample_ids: Sequence[int] | None = None,
        finished: Callable[[Trajectory, slice], None] | None = None,
    ) -> Trajectory:
        """Sample B trajectories.

        Each sample's noise is named by (seed, step, sample id), so it does not depend on the
        batch. A new latent is rounded to ``storage_dtype`` before its log-probability is taken and
        before the next step starts from it: what is stored is what happened.

        Args:
            condition: encoded prompts, one row per group.
            group: group of each sample, shape (B,).
            step: number of the iteration.
            sample_ids: numbers that name the samples; default 0..B-1.
            finished: called after each micro-batch with its rows; later rows are not sampled yet.
        """
        group, steps = group.to(self.device), self.transitions
        ids = list(range(len(group))) if sample_ids is None else list(sample_ids)
        names = torch.tensor(ids, device=self.device)
        shape = (len(steps) + 1, *self.latent_shape)
        noise = sample_noise(
            shape, run_seed=self.seed, purpose="rollout", step=step, sample_ids=ids
        ).to(self.device)
        latents = noise.to(self.storage_dtype, copy=True)  # all but the first are written over
        log_prob = torch.zeros((len(group), len(steps)), device=self.device)
        kl = None if self.reference is None else torch.zeros_like(log_prob)
        trajectory = Trajectory(latents, steps.times, log_prob, group, names, condition, kl)
        drawing = nullcontext(self.forward) if self.drawing is None else self.drawing(step)
        with drawing as forward:
            for rows in batches(len(group), self.micro_batch):
                self._sample_rows(forward, trajectory, rows, noise[rows])
                if finished is not None:
                    finished(trajectory, rows)
        return trajectory

    def _sample_rows(
        self, forward: Forward, trajectory: Trajectory, rows: slice, noise: Tensor
    ) -> None:
        """Go through all steps with some rows, and write them into the trajectory."""
        latents, transitions, size = trajectory.latents, self.transitions, rows.stop - rows.start
        condition = trajectory.condition_of(rows)
        times = transitions.times.float().to(self.device)
        kl_weight = transitions.kl_weight.float().to(self.device)
        for k in range(len(transitions)):
            x_t = latents[rows, k].float()
            t = times[k].expand(size)
            velocity = forward(x_t, t, condition)
            coefficients = transitions.step(torch.full((size,), k), device=self.device)
            x_s = step_sample(coefficients, x_t, velocity, noise[:, k + 1])
            latents[rows, k + 1] = x_s.to(latents.dtype)
            trajectory.log_prob[rows, k] = step_log_prob(
                coefficients, latents[rows, k + 1], x_t, velocity, reduction=self.reduction
            )
            if self.reference is not None and trajectory.reference_kl is not None:
                other = self.reference(x_t, t, condition)
                error = velocity_error(velocity, other, reduction=self.reduction)
                trajectory.reference_kl[rows, k] = kl_weight[k] * error

    def evaluate(self, trajectory: Trajectory, rows: slice, steps: Sequence[int]) -> Evaluated:
        """Evaluate the policy where trajectories have been, in one pass.

        Args:
            trajectory: B rollouts.
            rows: samples of the pass.
            steps: numbers of its steps.
        """
        step = torch.tensor(steps).repeat_interleave(rows.stop - rows.start)
        x_t = torch.cat([trajectory.latents[rows, k] for k in steps]).float()
        x_s = torch.cat([trajectory.latents[rows, k + 1] for k in steps]).float()
        condition = trajectory.condition_of(rows, len(steps))
        time = self.transitions.times.float().to(self.device)[step]
        velocity = self.forward(x_t, time, condition)
        log_prob = step_log_prob(
            self.transitions.step(step, device=self.device),
            x_s,
            x_t,
            velocity,
            reduction=self.reduction,
        )
        return Evaluated(step, x_t, time, condition, velocity, log_prob)

    def replay(
        self,
        trajectory: Trajectory,
        *,
        steps: Sequence[int] | None = None,
        steps_per_pass: int = 1,
        has_gradient: bool = False,
    ) -> Tensor:
        """Take the log-probabilities of stored steps again.

        On untouched weights the ratio to the stored ones is 1: exactly in the same micro-batches,
        and up to the summation order of matrix products in others.

        Args:
            trajectory: B rollouts.
            steps: numbers of the steps; default: the trained ones.
            steps_per_pass: number of steps in one pass.
            has_gradient: whether passes are those of an update, which a compiled network computes
                by another graph.

        Returns:
            log p of these steps, shape (B, len(steps)).
        """
        columns = []
        for some in chunks(self.trained if steps is None else steps, steps_per_pass):
            parts = []
            for rows in batches(len(trajectory), self.micro_batch):
                with torch.set_grad_enabled(has_gradient):
                    log_prob = self.evaluate(trajectory, rows, some).log_prob
                parts.append(log_prob.detach().view(len(some), -1))
            columns.append(torch.cat(parts, dim=1))
        return torch.cat(columns).T


@torch.no_grad()
def sample_ode(
    velocity: Callable[[Tensor, Tensor, Condition], Tensor],
    condition: Condition,
    noise: Tensor,
    *,
    times: Tensor,
    solver: Solver = "heun",
    micro_batch: int = 0,
) -> Tensor:
    """Sample deterministically, for evaluation.

    Args:
        velocity: velocity of (x_t, t, condition), usually a :class:`Forward`.
        condition: encoded prompts, one row per sample.
        noise: latents at times[0], shape (B, ...).
        times: times, descending to 0, shape (K + 1,).
        solver: see :func:`ddrl.diffusion.solvers.solve`.
        micro_batch: samples per forward pass, 0 for all.

    Returns:
        The latents x0, shape (B, ...).
    """
    done = []
    for rows in batches(len(noise), micro_batch):
        embedded = condition[rows]

        def field(x: Tensor, t: Tensor, embedded: Condition = embedded) -> Tensor:
            return velocity(x, t, embedded)

        done.append(solve(field, noise[rows], times, solver=solver))
    return torch.cat(done)
