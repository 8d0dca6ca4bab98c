"""Eqs. (T1) to (T4) against torch.distributions and against q built by hand."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from ddrl.diffusion.kernels import CPS, DDIM, ODE, DanceSDE, FlowSDE, Kernel
from ddrl.diffusion.process import Process, RectifiedFlow, VariancePreserving
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.transition import (
    Step,
    Transitions,
    reduce_dimensions,
    step_log_prob,
    step_mean,
    step_sample,
)

FLOW = RectifiedFlow()
PROCESSES = [
    pytest.param(FLOW, id="rectified_flow"),
    pytest.param(VariancePreserving(), id="vp"),
]
STOCHASTIC: list[Kernel] = [FlowSDE(0.7), DanceSDE(0.4), DDIM(0.8), DDIM(1.0), CPS(0.6)]
SHAPES = [(4,), (3, 2, 2), (2, 3, 4, 4)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def distribution(step: Step, x_t: Tensor, velocity: Tensor) -> Distribution:
    """Eq. (T1) as a torch distribution over one sample, float64."""
    size = (-1, *[1] * (x_t.ndim - 1))
    a, b, std = (c.double().reshape(size) for c in (step.a, step.b, step.std))
    mean = a * x_t.double() + b * velocity.double()
    return Independent(Normal(mean, std.expand_as(mean)), x_t.ndim - 1)


def log_density(step: Step, x_s: Tensor, x_t: Tensor, velocity: Tensor) -> Tensor:
    found: Tensor = distribution(step, x_t, velocity).log_prob(x_s.double())
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kernel", STOCHASTIC, ids=str)
def test_log_prob_equals_torch_distributions(kernel: Kernel, shape: tuple[int, ...]) -> None:
    transitions = Transitions.build(kernel, FLOW, time_grid(8))
    index = transitions.stochastic.nonzero()[:, 0]  # a batch in which every row is another step
    step = transitions.step(index)
    x_t, v, noise = normal(3, len(index), *shape)
    x_s = step_sample(step, x_t, v, noise)
    expected = log_density(step, x_s, x_t, v)
    log_prob = step_log_prob(step, x_s, x_t, v)
    assert log_prob.dtype == torch.float32
    torch.testing.assert_close(log_prob.double(), expected, rtol=1e-4, atol=1e-3)
    dimensions = x_t[0].numel()
    mean = step_log_prob(step, x_s, x_t, v, reduction="mean")
    torch.testing.assert_close(mean, log_prob / dimensions)


def test_log_prob_is_float32_for_half_precision_latents() -> None:
    """The rounding is part of where the step went; the density is evaluated in float32."""
    step = Transitions.build(FlowSDE(0.7), FLOW, time_grid(8)).step(torch.tensor([2, 3, 5]))
    x_t, v, noise = normal(3, 3, 3, 8)
    stored = step_sample(step, x_t.bfloat16(), v.bfloat16(), noise).bfloat16()
    log_prob = step_log_prob(step, stored, x_t.bfloat16(), v.bfloat16())
    assert log_prob.dtype == torch.float32
    expected = log_density(step, stored, x_t.bfloat16(), v.bfloat16())
    torch.testing.assert_close(log_prob.double(), expected, rtol=1e-5, atol=1e-4)


def test_gradient_of_log_prob() -> None:
    """b (x_s - mean) / std^2, the score function of a Gaussian's mean."""
    step = Transitions.build(FlowSDE(0.7), FLOW, time_grid(8)).step(torch.tensor([0, 4]))
    x_t, v, x_s = normal(3, 2, 6)
    v = v.requires_grad_()
    (gradient,) = torch.autograd.grad(step_log_prob(step, x_s, x_t, v).sum(), v)
    deviation = (x_s - step.a[:, None] * x_t - step.b[:, None] * v.detach()) / step.std[
        :, None
    ] ** 2
    torch.testing.assert_close(gradient, step.b[:, None] * deviation, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_deterministic_rows_give_0_and_no_nan(reduction: str) -> None:
    assert reduction in ("sum", "mean")
    transitions = Transitions.build(DDIM(1.0), FLOW, time_grid(5))
    step = transitions.step(torch.tensor([4, 1, 4]))
    x_t, v, x_s = normal(3, 3, 6)
    v = v.requires_grad_()
    log_prob = step_log_prob(step, x_s, x_t, v, reduction="sum" if reduction == "sum" else "mean")
    assert log_prob[[0, 2]].tolist() == [0, 0]
    assert float(log_prob[1].detach()) != 0
    (gradient,) = torch.autograd.grad(log_prob.sum(), v)
    assert gradient.isfinite().all()
    assert (gradient[[0, 2]] == 0).all()
    assert (gradient[1] != 0).all()


@pytest.mark.parametrize("kernel", STOCHASTIC, ids=str)
@pytest.mark.parametrize("process", PROCESSES)
def test_t3_is_the_kl_of_two_policies(process: Process, kernel: Kernel) -> None:
    transitions = Transitions.build(kernel, process, time_grid(8))
    index = transitions.stochastic.nonzero()[:, 0]
    step = transitions.step(index)
    x_t, v_1, v_2 = normal(3, len(index), 3, 2)
    expected = kl_divergence(distribution(step, x_t, v_1), distribution(step, x_t, v_2))
    weight = transitions.kl_weight[index]
    kl = weight * reduce_dimensions((v_1 - v_2).double() ** 2, "sum")
    torch.testing.assert_close(kl, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kernel", [DDIM(0.3), DDIM(1.0), CPS(0.5), CPS(1.0)], ids=str)
@pytest.mark.parametrize("process", PROCESSES)
def test_t4_is_the_kl_to_the_posterior(process: Process, kernel: Kernel) -> None:
    """q(x_s | x_t, x0) = N(alpha_s x0 + m noise, std^2), built from x0 and x_t by hand."""
    transitions = Transitions.build(kernel, process, time_grid(8))
    t, s = transitions.times[:-1], transitions.times[1:]
    keep = transitions.stochastic
    assert keep.tolist() == [True] * 7 + [False]
    x0, noise, policy = normal(3, 8, 5).double()
    x_t = process.add_noise(x0, noise, t)
    std = transitions.std[:, None]
    m = (process.sigma(s)[:, None] ** 2 - std**2).clamp_min(0).sqrt()
    by_hand = process.alpha(s)[:, None] * x0
    by_hand = by_hand + m * (x_t - process.alpha(t)[:, None] * x0) / process.sigma(t)[:, None]
    mean = transitions.a[:, None] * x_t + transitions.b[:, None] * policy
    q = Independent(Normal(by_hand[keep], std[keep].expand(-1, 5)), 1)
    p = Independent(Normal(mean[keep], std[keep].expand(-1, 5)), 1)
    error = reduce_dimensions((policy - process.velocity(x0, noise, t)) ** 2, "sum")
    expected = (transitions.kl_weight * error)[keep]
    torch.testing.assert_close(kl_divergence(q, p), expected, rtol=1e-6, atol=1e-6)


def test_t4_of_the_sde_kernels_tends_to_the_posterior_s() -> None:
    """flow_sde at eta = sqrt 2 has the forward SDE's own rate: its W is ddim's as steps shrink."""
    ratios = []
    for num_steps in (50, 400):
        weights = [
            Transitions.build(kernel, FLOW, time_grid(num_steps)).kl_weight
            for kernel in (FlowSDE(2**0.5), DDIM(1.0))
        ]
        ratios.append(float((weights[0] / weights[1])[num_steps // 2]))
    assert abs(ratios[1] - 1) < 0.01
    assert abs(ratios[0] - 1) == pytest.approx(8 * abs(ratios[1] - 1), rel=0.05)


def test_kl_weight_is_0_where_there_is_no_density() -> None:
    for kernel in (DDIM(1.0), CPS(0.5)):
        transitions = Transitions.build(kernel, FLOW, time_grid(5))
        assert transitions.stochastic.tolist() == [True] * 4 + [False]
        assert float(transitions.kl_weight[-1]) == 0
        assert (transitions.kl_weight[:-1] > 0).all()
    ode = Transitions.build(ODE(), FLOW, time_grid(5))
    assert not ode.stochastic.any()
    assert (ode.kl_weight == 0).all()


def test_kl_weight_of_flow_sde_by_hand() -> None:
    """t = .5, dt = .25, eta = .8: g^2 = .64, b = -.25 * 1.32, std^2 = .16."""
    transitions = Transitions.build(FlowSDE(0.8), FLOW, time_grid(4))
    assert float(transitions.kl_weight[2]) == pytest.approx((0.25 * 1.32) ** 2 / 0.32)


def test_noise_below_rounding_is_no_noise() -> None:
    """An eta of nearly 0 is the ODE, not a density with a weight of 1e18."""
    for kernel in (FlowSDE(1e-9), DanceSDE(1e-9), DDIM(1e-9), CPS(1e-9)):
        transitions = Transitions.build(kernel, FLOW, time_grid(5))
        assert not transitions.stochastic.any()
        assert (transitions.std == 0).all()
        assert (transitions.kl_weight == 0).all()


def test_the_last_step_of_ddim_is_deterministic() -> None:
    for process in (FLOW, VariancePreserving()):
        for num_steps in (1, 3, 10, 999):
            for shift in (0.7, 1.0, 3.0):
                times = time_grid(num_steps, shift=shift)
                assert float(Transitions.build(DDIM(1.0), process, times).std[-1]) == 0


def test_window_is_a_mask() -> None:
    times = time_grid(6)
    window = torch.tensor([False, True, True, False, False, False])
    mixed = Transitions.build(FlowSDE(0.7), FLOW, times, stochastic=window)
    full = Transitions.build(FlowSDE(0.7), FLOW, times)
    ode = Transitions.build(ODE(), FLOW, times)
    assert len(mixed) == 6
    assert torch.equal(mixed.stochastic, window)
    for name in ("a", "b", "std", "kl_weight"):
        row, inside, outside = (getattr(each, name) for each in (mixed, full, ode))
        assert torch.equal(row[window], inside[window])
        assert torch.equal(row[~window], outside[~window])


def test_sample_has_the_step_s_moments() -> None:
    step = Transitions.build(DanceSDE(0.7), FLOW, time_grid(4)).step(torch.tensor([1]))
    x_t, v = normal(2, 1, 3)
    noise = normal(1, 3, seed=4)
    drawn = step_sample(step, x_t, v, noise)
    torch.testing.assert_close((drawn - step_mean(step, x_t, v)) / step.std, noise)
    torch.testing.assert_close(step_mean(step, x_t, v), step.a * x_t + step.b * v)


def test_step_picks_rows_in_float32() -> None:
    transitions = Transitions.build(FlowSDE(0.7), FLOW, time_grid(4))
    step = transitions.step(torch.tensor([3, 0, 3]))
    for name in ("a", "b", "std"):
        column: Tensor = getattr(step, name)
        assert column.dtype == torch.float32
        assert torch.equal(column, getattr(transitions, name)[[3, 0, 3]].float())


def test_reduce_dimensions() -> None:
    x = torch.arange(12.0).reshape(2, 3, 2)
    assert reduce_dimensions(x, "sum").tolist() == [15, 51]
    assert reduce_dimensions(x, "mean").tolist() == [2.5, 8.5]


def test_a_column_beside_a_row_is_refused() -> None:
    """The bug of habit 2: (B, 1) beside (B,) would broadcast to (B, B)."""
    step = Transitions.build(FlowSDE(0.7), FLOW, time_grid(4)).step(torch.tensor([0, 1]))
    x_t, v, x_s = normal(3, 2, 6)
    with pytest.raises(jaxtyping.TypeCheckError):
        Step(step.a[:, None], step.b, step.std)
    with pytest.raises(jaxtyping.TypeCheckError):
        step_log_prob(step, x_s, x_t, v[:, :1])
    with pytest.raises(jaxtyping.TypeCheckError):
        step_mean(step, x_t, v[:1])
