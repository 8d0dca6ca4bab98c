"""Deterministic solvers of the probability-flow ODE dx/dt = v(x, t), for evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Solver = Literal["euler", "heun", "multistep"]
Velocity = Callable[[Tensor, Tensor], Tensor]


def num_evaluations(solver: Solver, num_steps: int) -> int:
    """Velocity evaluations that :func:`solve` makes for ``num_steps`` steps."""
    return 2 * num_steps - 1 if solver == "heun" else num_steps


def solve(
    velocity: Velocity, x: Float[Tensor, "B *D"], times: Float[Tensor, "K1"], *, solver: Solver
) -> Float[Tensor, "B *D"]:
    """Integrate from times[0] to times[-1].

    Args:
        velocity: (x_t, t of shape (B,)) -> v of the shape of x_t.
        x: the state at times[0].
        times: a monotone grid.
        solver: ``euler`` (order 1); ``heun`` (order 2, two evaluations a step, one at the last,
            where v at t = 0 may not exist; source: arXiv 2206.00364, algorithm 1); ``multistep``
            (order 2, Adams-Bashforth with variable steps, one evaluation a step).

    Returns:
        The state at times[-1].
    """
    previous: tuple[Tensor, float] | None = None
    steps = times.double().tolist()
    for index, (t, s) in enumerate(itertools.pairwise(steps)):
        dt = s - t
        v = velocity(x, x.new_full((len(x),), t))
        if solver == "heun" and index < len(steps) - 2:
            v_next = velocity(x + dt * v, x.new_full((len(x),), s))
            x = x + dt * (v + v_next) / 2
        elif solver == "multistep" and previous is not None:
            v_previous, dt_previous = previous
            x = x + dt * torch.lerp(v_previous, v, 1 + dt / (2 * dt_previous))
        else:
            x = x + dt * v
        previous = (v, dt)
    return x
