"""Sampling: prompts to a Trajectory with the log-probability of every step, or to x0 alone."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ddrl.diffusion.solvers import Solver, solve
from ddrl.diffusion.transition import Reduction, Transitions, step_log_prob, step_sample
from ddrl.objective.regularizer import velocity_error
from ddrl.records import Condition, Trajectory
from ddrl.seeding import NoiseAhead, SampleNoise, is_small, sample_noise
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
        on_host: whether they are stored on the CPU.
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
        on_host: bool = False,
        reference: Forward | None = None,
        drawing: Drawing | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.forward, self.reference, self.drawing = forward, reference, drawing
        self.transitions, self.latent_shape = transitions, tuple(latent_shape)
        with_density = transitions.stochastic.nonzero().flatten().tolist()
        self.trained: tuple[int, ...] = tuple(with_density if trained is None else trained)
        self.seed, self.micro_batch, self.reduction = seed, micro_batch, reduction
        self.storage_dtype, self.on_host, self.device = storage_dtype, on_host, device

    @cached_property
    def times(self) -> Tensor:
        """Times of the grid, float32, shape (K + 1,), on the device."""
        return self.transitions.times.float().to(self.device)

    @cached_property
    def kl_weight(self) -> Tensor:
        """W of each step, eq. (T3), float32, shape (K,), on the device."""
        return self.transitions.kl_weight.float().to(self.device)

    def index(self, steps: Sequence[int], size: int) -> Tensor:
        """Numbers of steps, ``size`` times each, shape (len(steps) * size,).

        They are made on the device, so that nothing waits for a copy.
        """
        return torch.cat([torch.full((size,), k, device=self.device) for k in steps])

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
        shape = (len(group), len(steps) + 1, *self.latent_shape)
        place = "cpu" if self.on_host else self.device
        pin = self.on_host and torch.device(self.device).type == "cuda"
        latents = torch.empty(shape, dtype=self.storage_dtype, device=place, pin_memory=pin)
        log_prob = torch.zeros((len(group), len(steps)), device=self.device)
        kl = None if self.reference is None else torch.zeros_like(log_prob)
        trajectory = Trajectory(latents, steps.times, log_prob, group, names, condition, kl)
        drawing = nullcontext(self.forward) if self.drawing is None else self.drawing(step)
        parts = list(batches(len(group), self.micro_batch))
        with drawing as forward, closing(self._noise(step, ids, parts)) as noise:
            for rows in parts:
                self._sample_rows(forward, trajectory, rows, noise)
                if finished is not None:
                    finished(trajectory, rows)
        return trajectory

    def _noise(
        self, step: int, ids: Sequence[int], parts: Sequence[slice]
    ) -> Generator[Tensor, None, None]:
        """Yield the noise of each micro-batch at the start and at each step, shape (rows, ...)."""
        named: dict[str, Any] = {"run_seed": self.seed, "purpose": "rollout"}
        named |= {"step": step, "sample_ids": ids}
        count = len(self.transitions) + 1
        order = [(rows, k) for rows in parts for k in range(count)]
        if is_small(self.latent_shape):
            whole = sample_noise((count, *self.latent_shape), **named).to(self.device)
            yield from (whole[rows, k] for rows, k in order)
            return
        noise = SampleNoise(self.latent_shape, num_steps=count, **named)
        yield from NoiseAhead(noise, order, device=self.device).pieces()

    def _sample_rows(
        self, forward: Forward, trajectory: Trajectory, rows: slice, noise: Iterator[Tensor]
    ) -> None:
        """Go through all steps with some rows, and write them into the trajectory."""
        latents, transitions, size = trajectory.latents, self.transitions, rows.stop - rows.start
        condition = trajectory.condition_of(rows)
        stored = next(noise).to(latents.dtype, copy=True)  # it is used past the next one
        latents[rows, 0] = stored
        for k in range(len(transitions)):
            x_t = stored.float()
            t = self.times[k].expand(size)
            velocity = forward(x_t, t, condition)
            coefficients = transitions.step(self.index((k,), size), device=self.device)
            x_s = step_sample(coefficients, x_t, velocity, next(noise))
            stored = x_s.to(latents.dtype)
            latents[rows, k + 1] = stored
            trajectory.log_prob[rows, k] = step_log_prob(
                coefficients, stored, x_t, velocity, reduction=self.reduction
            )
            if self.reference is not None and trajectory.reference_kl is not None:
                other = self.reference(x_t, t, condition)
                error = velocity_error(velocity, other, reduction=self.reduction)
                trajectory.reference_kl[rows, k] = self.kl_weight[k] * error

    def evaluate(self, trajectory: Trajectory, rows: slice, steps: Sequence[int]) -> Evaluated:
        """Evaluate the policy where trajectories have been, in one pass.

        Args:
            trajectory: B rollouts.
            rows: samples of the pass.
            steps: numbers of its steps.
        """
        step = self.index(steps, rows.stop - rows.start)
        x_t, x_s = (
            torch.cat([trajectory.latents[rows, k + after] for k in steps]).to(self.device).float()
            for after in (0, 1)
        )
        condition = trajectory.condition_of(rows, len(steps))
        time = self.times[step]
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
