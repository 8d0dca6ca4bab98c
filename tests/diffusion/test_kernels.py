"""Kernels against the table of eq. (T1), written out again, and against identities."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ddrl.diffusion.kernels import (
    CPS,
    DDIM,
    KERNELS,
    ODE,
    DanceSDE,
    FlowSDE,
    Kernel,
    make_kernel,
)
from ddrl.diffusion.process import Process, RectifiedFlow, VariancePreserving
from ddrl.diffusion.schedule import time_grid
from ddrl.errors import UsageError

GRIDS = [
    pytest.param(time_grid(7), id="uniform"),
    pytest.param(time_grid(9, shift=3.0), id="shift"),
]
PROCESSES = [
    pytest.param(RectifiedFlow(), id="rectified_flow"),
    pytest.param(VariancePreserving(), id="vp"),
]


def table_row(name: str, eta: float, t: float, s: float) -> tuple[float, float, float]:
    """One row of the table of eq. (T1) for rectified flow, in plain floats."""
    dt = t - s
    if name == "ode":
        return 1.0, -dt, 0.0
    if name in {"flow_sde", "dance_sde"}:
        g = eta
        if name == "flow_sde":
            g = eta * math.sqrt(t / (1 - (s if t == 1 else t)))
        return (
            1 - g**2 * dt / (2 * t),
            -dt * (1 + g**2 * (1 - t) / (2 * t)),
            g * math.sqrt(dt),
        )
    if name == "ddim":
        std = eta * math.sqrt((s**2 / t**2) * (t**2 - ((1 - t) / (1 - s)) ** 2 * s**2))
    else:
        std = s * math.sin(eta * math.pi / 2)
    m = math.sqrt(s**2 - std**2)
    return (1 - s) + m, -(1 - s) * t + m * (1 - t), std


@pytest.mark.parametrize("times", GRIDS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("name", list(KERNELS))
def test_rows_of_the_table(name: str, eta: float, times: Tensor) -> None:
    t, s = times[:-1], times[1:]
    a, b, std = make_kernel(name, eta=eta).coefficients(RectifiedFlow(), t, s)
    rows = [table_row(name, eta, *pair) for pair in zip(t.tolist(), s.tolist(), strict=True)]
    expected = torch.tensor(rows, dtype=torch.float64)
    torch.testing.assert_close(torch.stack([a, b, std], 1), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eta", [0.3, 0.7, 1.0])
def test_ddim_is_the_paper_s_for_vp(eta: float) -> None:
    """DDIM's eqs. (12) and (16), in terms of alpha-bar = alpha^2."""
    process, times = VariancePreserving(), time_grid(8)
    t, s = times[:-1], times[1:]
    bar_t, bar_s = process.alpha(t) ** 2, process.alpha(s) ** 2
    std = eta * ((1 - bar_s) / (1 - bar_t) * (1 - bar_t / bar_s)).sqrt()
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    x_t, v = process.add_noise(x0, noise, t), process.velocity(x0, noise, t)
    a, b, kernel_std = DDIM(eta).coefficients(process, t, s)
    torch.testing.assert_close(kernel_std, std, rtol=1e-9, atol=1e-9)
    mean = bar_s.sqrt() * x0 + (1 - bar_s - std**2).clamp_min(0).sqrt() * noise
    torch.testing.assert_close(a * x_t + b * v, mean, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("process", PROCESSES)
def test_ddim_at_eta_1_is_the_posterior_by_bayes(process: Process) -> None:
    """q(x_s | x_t, x0) from q(x_s | x0) and q(x_t | x_s), both Gaussian, by Bayes' rule."""
    times = time_grid(8)
    t, s = times[1:-2], times[2:-1]  # alpha_t > 0 and sigma_s > 0
    ratio = process.alpha(t) / process.alpha(s)
    noise_variance = process.sigma(t) ** 2 - ratio**2 * process.sigma(s) ** 2
    precision = 1 / process.sigma(s) ** 2 + ratio**2 / noise_variance
    generator = torch.Generator().manual_seed(1)
    x0, noise = torch.randn(2, len(t), generator=generator, dtype=torch.float64)
    x_t, v = process.add_noise(x0, noise, t), process.velocity(x0, noise, t)
    prior_mean = process.alpha(s) * x0
    mean = (prior_mean / process.sigma(s) ** 2 + ratio * x_t / noise_variance) / precision
    a, b, std = DDIM(1.0).coefficients(process, t, s)
    torch.testing.assert_close(std, precision.rsqrt())
    torch.testing.assert_close(a * x_t + b * v, mean)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("kernel", [DDIM(0.0), DDIM(0.4), DDIM(1.0), CPS(0.0), CPS(0.5), CPS(1.0)])
def test_posterior_kernels_keep_the_process(process: Process, kernel: Kernel) -> None:
    """For one x0, x_s is alpha_s x0 + noise of variance sigma_s^2: (P1) at time s, exactly."""
    times = time_grid(10)
    t, s = times[:-1], times[1:]
    a, b, std = kernel.coefficients(process, t, s)
    # x_t = alpha x0 + sigma e and v = alpha' x0 + sigma' e: the factors of x0 and e in the mean.
    of_x0 = a * process.alpha(t) + b * process.alpha_dot(t)
    of_noise = a * process.sigma(t) + b * process.sigma_dot(t)
    torch.testing.assert_close(of_x0, process.alpha(s), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(of_noise**2 + std**2, process.sigma(s) ** 2, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", ["flow_sde", "dance_sde"])
def test_sde_without_noise_is_the_ode(process: Process, name: str) -> None:
    times = time_grid(6)
    t, s = times[:-1], times[1:]
    ode = torch.stack(ODE().coefficients(process, t, s))
    still = torch.stack(make_kernel(name, eta=0.0).coefficients(process, t, s))
    torch.testing.assert_close(still, ode, rtol=0, atol=1e-15)
    gaps = [
        float(
            (torch.stack(make_kernel(name, eta=eta).coefficients(process, t, s)) - ode)
            .abs()[:2]
            .max()
        )
        for eta in (1e-2, 1e-3)
    ]
    assert gaps[0] / gaps[1] == pytest.approx(100, rel=1e-6)  # the drift changes by eta^2


@pytest.mark.parametrize("kernel", [DDIM(0.0), CPS(0.0)])
def test_deterministic_ddim_is_euler_for_rectified_flow(kernel: Kernel) -> None:
    times = time_grid(6, shift=2.0)
    t, s = times[:-1], times[1:]
    ode = torch.stack(ODE().coefficients(RectifiedFlow(), t, s))
    ddim = torch.stack(kernel.coefficients(RectifiedFlow(), t, s))
    torch.testing.assert_close(ddim, ode, rtol=0, atol=1e-15)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("kernel", [FlowSDE(0.7), DanceSDE(0.7)])
def test_sde_is_euler_maruyama_with_the_score(process: Process, kernel: Kernel) -> None:
    """mean = x - dt (v - g^2/2 score), with g read off the std and the score by (P3)."""
    times = time_grid(8)
    t, s = times[1:-1], times[2:]
    a, b, std = kernel.coefficients(process, t, s)
    generator = torch.Generator().manual_seed(2)
    x, v = torch.randn(2, len(t), generator=generator, dtype=torch.float64)
    dt = t - s
    score = process.score(x, v, t)
    torch.testing.assert_close(a * x + b * v, x - dt * (v - std**2 / dt / 2 * score))


def test_flow_sde_rate_for_vp() -> None:
    """g^2 is eta^2 / 2 times the forward rate, beta(t) for VP."""
    process, times = VariancePreserving(beta_min=0.1, beta_max=20.0), time_grid(8)
    t, s = times[:-1], times[1:]
    _, _, std = FlowSDE(0.6).coefficients(process, t, s)
    torch.testing.assert_close(std**2 / (t - s), 0.6**2 / 2 * (0.1 + 19.9 * t))


@pytest.mark.parametrize("num_steps", [1, 2, 20, 1000])
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", list(KERNELS))
def test_coefficients_are_finite_on_the_whole_grid(
    name: str, process: Process, num_steps: int
) -> None:
    times = time_grid(num_steps)
    for eta in (0.0, 1e-8, 0.7, 1.0):
        rows = make_kernel(name, eta=eta).coefficients(process, times[:-1], times[1:])
        for row in rows:
            assert row.shape == (num_steps,)
            assert row.isfinite().all()
        assert (rows[2] >= 0).all()


def test_make_kernel_names_what_is_wrong() -> None:
    assert make_kernel("ode", eta=5.0) == ODE()
    assert make_kernel("flow_sde", eta=1.4) == FlowSDE(1.4)
    assert make_kernel("cps", eta=1.0) == CPS(1.0)
    with pytest.raises(UsageError, match="Unknown kernel 'edm'") as unknown:
        make_kernel("edm", eta=0.5)
    assert "dance_sde" in unknown.value.hint
    for name, eta in (("ddim", 1.01), ("cps", 2.0), ("flow_sde", -0.1)):
        with pytest.raises(UsageError, match=f"{name} can't take eta {eta}"):
            make_kernel(name, eta=eta)
