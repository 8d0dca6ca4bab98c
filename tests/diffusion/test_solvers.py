"""ODE solvers: their order on a linear ODE, what is exact, and what they cost."""

from __future__ import annotations

import math

import pytest
import torch
from tests.diffusion.gaussian import GaussianData
from torch import Tensor

from ddrl.diffusion.process import RectifiedFlow
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.solvers import Solver, num_evaluations, solve

ORDERS: list[tuple[Solver, int]] = [("euler", 1), ("heun", 2), ("multistep", 2)]
SOLVERS: list[Solver] = [solver for solver, _ in ORDERS]


def row(t: Tensor) -> Tensor:
    return t[:, None]


def error(solver: Solver, num_steps: int, shift: float) -> float:
    """On dx/dt = -1.5 x + t from x(1) = 1; the solution is C e^(-1.5 t) + t / 1.5 - 1 / 2.25."""
    x = torch.ones(2, 1, dtype=torch.float64)
    times = time_grid(num_steps, shift=shift)
    end = solve(lambda x, t: -1.5 * x + row(t), x, times, solver=solver)
    constant = (1 - 1 / 1.5 + 1 / 2.25) * math.exp(1.5)
    return float((end - (constant - 1 / 2.25)).abs().max())


@pytest.mark.parametrize("shift", [1.0, 3.0], ids=["uniform", "variable_steps"])
@pytest.mark.parametrize(("solver", "expected"), ORDERS)
def test_order(solver: Solver, expected: int, shift: float) -> None:
    coarse, fine = error(solver, 200, shift), error(solver, 400, shift)
    assert coarse < 0.1
    assert math.log2(coarse / fine) == pytest.approx(expected, abs=0.07)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_constant_velocity_is_exact(solver: Solver, num_steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, v = torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.float64)
    end = solve(lambda *_: v, x, time_grid(num_steps, shift=2.0), solver=solver)
    torch.testing.assert_close(end, x - v)


def test_multistep_is_exact_for_a_velocity_linear_in_time() -> None:
    """Adams-Bashforth of order 2 integrates lines exactly, also with unequal steps."""
    x, times = torch.zeros(1, 1, dtype=torch.float64), time_grid(6, shift=3.0)
    end = solve(lambda _, t: 4 * row(t), x, times, solver="multistep")
    first = float(times[1] - times[0]) * 4  # Euler's step: no velocity before it
    rest = 2 * (0 - float(times[1]) ** 2)
    assert float(end) == pytest.approx(first + rest, abs=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_number_of_evaluations_and_their_times(solver: Solver, num_steps: int) -> None:
    seen: list[float] = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (len(x),)
        assert t.dtype == x.dtype
        seen.append(float(t[0]))
        return -x

    solve(velocity, torch.ones(2, 3), time_grid(num_steps), solver=solver)
    assert len(seen) == num_evaluations(solver, num_steps)
    assert min(seen) > 0  # the velocity at t = 0 may not exist
    assert seen[0] == 1


@pytest.mark.parametrize(
    ("solver", "tolerance"), [("euler", 1.2e-2), ("heun", 2e-4), ("multistep", 8e-4)]
)
def test_transport_of_a_gaussian(solver: Solver, tolerance: float) -> None:
    """The flow of Gaussian data maps N(0, 1) to the data: x0 = mu + S x1."""
    process, data = RectifiedFlow(), GaussianData(0.8, 0.5)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        slope, offset = data.velocity(process, t)
        return row(slope) * x + row(offset)

    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    end = solve(velocity, x, time_grid(160), solver=solver)
    torch.testing.assert_close(end, 0.8 + 0.5 * x, rtol=0, atol=tolerance)
