"""Kernels on Gaussian data with the exact velocity: moments without sampling.

What is exact at any number of steps, what converges and how fast, and what does not converge.
"""

from __future__ import annotations

import math

import pytest
import torch
from tests.diffusion.gaussian import GaussianData

from ddrl.diffusion.kernels import CPS, DDIM, ODE, DanceSDE, FlowSDE, Kernel
from ddrl.diffusion.process import Process, RectifiedFlow, VariancePreserving
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.transition import Transitions

FLOW, VP = RectifiedFlow(), VariancePreserving()
PROCESSES = [pytest.param(FLOW, id="rectified_flow"), pytest.param(VP, id="vp")]
ETAS = [0.3, 0.7, 1.0]
POSTERIORS = [kind(eta) for kind in (DDIM, CPS) for eta in ETAS]


def errors(
    kernel: Kernel, process: Process, data: GaussianData, steps: list[int]
) -> list[tuple[float, float]]:
    """Error of (mean, standard deviation) for each number of steps."""
    return [
        data.error(Transitions.build(kernel, process, time_grid(num_steps)), process)
        for num_steps in steps
    ]


def order(fine: float, coarse: float, refinement: float) -> float:
    """p of error ~ K^-p between two numbers of steps."""
    return math.log(abs(coarse / fine)) / math.log(refinement)


@pytest.mark.parametrize("process", PROCESSES)
def test_the_affine_velocity_is_the_conditional_mean(process: Process) -> None:
    """The helper itself: against least squares of v on x_t, from the joint covariance."""
    data, t = GaussianData(0.8, 0.5), torch.linspace(0.1, 1, 5, dtype=torch.float64)
    slope, offset = data.velocity(process, t)
    # v = alpha' x0 + sigma' e and x_t = alpha x0 + sigma e, with independent x0 and e.
    covariance = process.alpha_dot(t) * process.alpha(t) * 0.25 + process.sigma_dot(
        t
    ) * process.sigma(t)
    variance = process.alpha(t) ** 2 * 0.25 + process.sigma(t) ** 2
    torch.testing.assert_close(slope, covariance / variance)
    torch.testing.assert_close(slope * process.alpha(t) * 0.8 + offset, process.alpha_dot(t) * 0.8)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("kernel", POSTERIORS, ids=str)
def test_posterior_kernels_are_exact_on_a_point_mass(process: Process, kernel: Kernel) -> None:
    """x0_hat is x0, so the chain has the process's own marginals at every time, for any K."""
    point = GaussianData(1.3, 0.0)
    for num_steps in (1, 3, 10):
        transitions = Transitions.build(kernel, process, time_grid(num_steps))
        mean, variance = point.moments(transitions, process)
        exact_mean, exact_variance = point.marginal(process, transitions.times)
        torch.testing.assert_close(mean, exact_mean, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(variance, exact_variance, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kernel", [FlowSDE(0.7), DanceSDE(0.7)], ids=str)
def test_sde_kernels_are_not_exact_on_a_point_mass(kernel: Kernel) -> None:
    point = GaussianData(1.3, 0.0)
    transitions = Transitions.build(kernel, FLOW, time_grid(10))
    _, variance = point.moments(transitions, FLOW)
    _, exact = point.marginal(FLOW, transitions.times)
    assert float((variance - exact).abs().max()) > 1e-3


@pytest.mark.parametrize(
    "kernel", [ODE(), DanceSDE(0.7), FlowSDE(0.7), DDIM(1.0), CPS(0.9)], ids=str
)
def test_rectified_flow_keeps_the_mean_at_any_number_of_steps(kernel: Kernel) -> None:
    """The mean moves on a straight line, on which Euler's steps are exact."""
    ((mean, _),) = errors(kernel, FLOW, GaussianData(0.8, 0.5), [7])
    assert mean == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("kernel", [ODE(), DanceSDE(0.3), DanceSDE(0.7), *map(DDIM, ETAS)], ids=str)
def test_first_order(process: Process, kernel: Kernel) -> None:
    """O(1/K) on Gaussian data, in mean and standard deviation."""
    coarse, fine = errors(kernel, process, GaussianData(0.8, 0.5), [640, 1280])
    assert abs(fine[1]) < 5e-3
    assert order(fine[1], coarse[1], 2) == pytest.approx(1, abs=0.06)
    if abs(coarse[0]) > 1e-9:
        assert order(fine[0], coarse[0], 2) == pytest.approx(1, abs=0.06)


def test_flow_sde_is_first_order_for_vp() -> None:
    """Its rate g is bounded there."""
    coarse, fine = errors(FlowSDE(1.0), VP, GaussianData(0.8, 0.5), [640, 1280])
    assert order(fine[1], coarse[1], 2) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("eta", [0.5, 0.7, 1.4])
def test_flow_sde_first_step_never_gets_small(eta: float) -> None:
    """g^2 dt = eta^2 at t = 1 whatever K is, so the variance after one step is 1 + eta^4 / 4.

    From there k steps forget it as k^(-eta^2), so that flow_sde on rectified flow converges with
    order min(1, eta^2), not 1: slowly for small eta, though the error is small to begin with.
    """
    data = GaussianData(0.0, 1.0)
    for num_steps in (100, 10_000):
        transitions = Transitions.build(FlowSDE(eta), FLOW, time_grid(num_steps))
        _, variance = data.moments(transitions, FLOW)
        assert float(variance[1]) == pytest.approx(1 + eta**4 / 4, abs=4 / num_steps)
    (_, coarse), (_, fine) = errors(FlowSDE(eta), FLOW, data, [2**14, 2**16])
    assert abs(fine) < 2e-3
    assert order(fine, coarse, 4) == pytest.approx(min(1, eta**2), abs=0.1)


@pytest.mark.parametrize("eta", ETAS)
def test_cps_does_not_converge_to_the_data(eta: float) -> None:
    """Its noise sigma_s sin(eta pi / 2) does not shrink with dt: the limit is too narrow.

    Every step loses the share A B (1 - cos)^2 / V^2 of the variance V = A + B, where A = alpha^2
    S^2, B = sigma^2 and cos = cos(eta pi / 2); the balance with the contraction, at A >> B, leaves
    the standard deviation cos(eta pi / 4) S as K grows.
    """
    ((_, coarse), (_, fine)) = errors(CPS(eta), FLOW, GaussianData(0.8, 1.0), [500, 20_000])
    limit = math.cos(eta * math.pi / 4)
    assert 1 + fine == pytest.approx(limit, abs=2e-3)
    assert abs(1 + coarse - limit) > 3 * abs(1 + fine - limit)


@pytest.mark.parametrize("eta", ETAS)
def test_cps_loss_of_variance_in_one_small_step(eta: float) -> None:
    data = GaussianData(0.0, 0.7)
    t = torch.tensor([0.4], dtype=torch.float64)
    s = t - 1e-7
    a, b, std = CPS(eta).coefficients(FLOW, t, s)
    slope, _ = data.velocity(FLOW, t)
    _, variance = data.marginal(FLOW, t)
    loss = variance - ((a + b * slope) ** 2 * variance + std**2)
    of_data, of_noise = 0.36 * 0.49, 0.16
    cos = math.cos(eta * math.pi / 2)
    expected = of_data * of_noise * (1 - cos) ** 2 / (of_data + of_noise)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", [FlowSDE, DanceSDE, DDIM, CPS])
def test_small_eta_is_the_ode(
    process: Process, name: type[FlowSDE | DanceSDE | DDIM | CPS]
) -> None:
    data = GaussianData(0.8, 0.5)
    kernels: list[Kernel] = [name(1e-3), name(0.0)]
    moving, still = (errors(kernel, process, data, [20])[0] for kernel in kernels)
    assert moving == pytest.approx(still, abs=2e-5)
    if process is FLOW or name in (FlowSDE, DanceSDE):
        assert still == pytest.approx(errors(ODE(), process, data, [20])[0], abs=1e-12)
