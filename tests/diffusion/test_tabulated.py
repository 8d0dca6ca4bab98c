"""The process of a table: the table at its times, derivatives that are derivatives, finite ends."""

from __future__ import annotations

import pytest
import torch
from tests.diffusion.gaussian import GaussianData
from torch import Tensor

from ddrl.diffusion.kernels import DDIM, FlowSDE
from ddrl.diffusion.process import Prediction, VariancePreserving, per_row
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.tabulated import TabulatedVP
from ddrl.diffusion.transition import Transitions
from ddrl.errors import UsageError


def stable_diffusion_table(number: int = 1000) -> Tensor:
    """alpha^2 of Stable Diffusion: beta is linear in its square root."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, number, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


def zero_snr_table() -> Tensor:
    """The same, stretched so that alpha ends in 0. Source: arXiv 2305.08891, algorithm 1."""
    alpha = stable_diffusion_table().double().sqrt()
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return (alpha**2).float()


TABLES = [
    pytest.param(stable_diffusion_table(), id="stable_diffusion"),
    pytest.param(zero_snr_table(), id="zero_snr"),
    pytest.param(torch.tensor([0.9, 0.5, 0.2]), id="short"),
]
INSIDE = torch.tensor([0.0004, 0.0013, 0.05, 0.3337, 0.5, 0.77777, 0.9996], dtype=torch.float64)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_table_at_its_times(table: Tensor, dtype: torch.dtype) -> None:
    process = TabulatedVP(table)
    t = torch.arange(1, len(table) + 1, dtype=dtype) / len(table)
    expected = table.double().sqrt().to(dtype)
    torch.testing.assert_close(process.alpha(t), expected, rtol=1e-5, atol=1e-7)
    expected = (1 - table.double()).sqrt().to(dtype)
    # In float32 the table's own values near 1 have few digits of sigma, as the schedulers do.
    torch.testing.assert_close(process.sigma(t), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("table", TABLES)
def test_derivatives_equal_autograd(table: Tensor) -> None:
    process = TabulatedVP(table)
    t = INSIDE.clone().requires_grad_()
    (alpha_dot,) = torch.autograd.grad(process.alpha(t).sum(), t)
    (sigma_dot,) = torch.autograd.grad(process.sigma(t).sum(), t)
    torch.testing.assert_close(process.alpha_dot(INSIDE), alpha_dot, rtol=1e-10, atol=0)
    torch.testing.assert_close(process.sigma_dot(INSIDE), sigma_dot, rtol=1e-10, atol=0)


@pytest.mark.parametrize("table", TABLES)
def test_it_is_smooth_and_monotone(table: Tensor) -> None:
    process = TabulatedVP(table)
    fine = torch.linspace(0, 1, 20 * len(table) + 1, dtype=torch.float64)
    assert (process.alpha(fine).diff() < 0).all()
    assert (process.sigma(fine).diff() >= 0).all()
    assert (process.det(fine[1:]) > 0).all()
    torch.testing.assert_close(process.alpha(fine) ** 2 + process.sigma(fine) ** 2, fine**0)
    knots = torch.arange(1, len(table), dtype=torch.float64) / len(table)
    before, after = process.alpha_dot(knots - 1e-9), process.alpha_dot(knots + 1e-9)
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)


def test_it_is_the_continuous_process_that_was_tabulated() -> None:
    truth = VariancePreserving()
    knots = torch.arange(1, 1001, dtype=torch.float64) / 1000
    process = TabulatedVP(truth.alpha(knots) ** 2)
    t = torch.linspace(0.0105, 0.9995, 991, dtype=torch.float64)
    torch.testing.assert_close(process.alpha(t), truth.alpha(t), rtol=0, atol=1e-7)
    torch.testing.assert_close(process.sigma(t), truth.sigma(t), rtol=0, atol=1e-6)
    torch.testing.assert_close(process.alpha_dot(t), truth.alpha_dot(t), rtol=0, atol=1e-4)
    torch.testing.assert_close(process.sigma_dot(t), truth.sigma_dot(t), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("prediction", ["velocity", "noise", "x0", "v"])
def test_every_prediction_becomes_the_velocity(prediction: Prediction) -> None:
    process = TabulatedVP(stable_diffusion_table())
    generator = torch.Generator().manual_seed(5)
    x0, noise = torch.randn(2, 7, 2, 3, generator=generator, dtype=torch.float64)
    x_t, v = process.add_noise(x0, noise, INSIDE), process.velocity(x0, noise, INSIDE)
    alpha, sigma = per_row(process.alpha(INSIDE), x0), per_row(process.sigma(INSIDE), x0)
    outputs = {"velocity": v, "noise": noise, "x0": x0, "v": alpha * noise - sigma * x0}
    converted = process.to_velocity(outputs[prediction], x_t, INSIDE, prediction=prediction)
    torch.testing.assert_close(converted, v, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(process.to_x0(x_t, v, INSIDE), x0)
    torch.testing.assert_close(process.to_noise(x_t, v, INSIDE), noise)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_terminal_snr_is_not_singular(dtype: torch.dtype) -> None:
    process = TabulatedVP(zero_snr_table())
    end = torch.ones(1, dtype=dtype)
    assert process.alpha(end).abs().item() < 1e-12
    assert process.sigma(end).item() == 1
    generator = torch.Generator().manual_seed(6)
    x0, noise = torch.randn(2, 1, 4, generator=generator, dtype=dtype)
    v = process.to_velocity(-x0, noise, end, prediction="v")  # x_t is the noise, v is -x0
    torch.testing.assert_close(v, process.velocity(x0, noise, end))
    torch.testing.assert_close(process.to_x0(noise, v, end), x0)
    for kernel in (DDIM(0.0), DDIM(1.0), FlowSDE(0.7)):
        steps = Transitions.build(kernel, process, time_grid(5))
        for row in (steps.a, steps.b, steps.std, steps.kl_weight):
            assert row.isfinite().all()


@pytest.mark.parametrize("table", TABLES[:2])
def test_a_point_is_reached_exactly(table: Tensor) -> None:
    """Deterministic DDIM is exact for one x0, whatever the steps."""
    process = TabulatedVP(table)
    point = GaussianData(mean=0.7, std=0.0)
    steps = Transitions.build(DDIM(0.0), process, time_grid(4))
    mean, std = point.error(steps, process)
    assert abs(mean) < 1e-9
    assert std < 1e-6


@pytest.mark.parametrize("table", TABLES[:2])
def test_ddim_converges_on_gaussian_data(table: Tensor) -> None:
    process, data = TabulatedVP(table), GaussianData(mean=0.5, std=0.8)
    errors = [
        max(map(abs, data.error(Transitions.build(DDIM(1.0), process, time_grid(k)), process)))
        for k in (25, 50, 100)
    ]
    assert errors[1] < 0.65 * errors[0]
    assert errors[2] < 0.65 * errors[1]


@pytest.mark.parametrize(
    "table", [[0.5], [0.5, 0.6], [0.5, 0.5], [1.0, 0.5], [0.5, -0.1], [0.5, float("nan")]]
)
def test_other_tables_are_refused(table: list[float]) -> None:
    with pytest.raises(UsageError, match="has to decrease"):
        TabulatedVP(torch.tensor(table))


def test_any_shape_and_dtype_of_times() -> None:
    process = TabulatedVP(stable_diffusion_table())
    assert len(process) == 1000
    t = torch.rand(2, 3, generator=torch.Generator().manual_seed(0))
    for value in (process.alpha(t), process.sigma(t), process.alpha_dot(t), process.sigma_dot(t)):
        assert value.shape == t.shape
        assert value.dtype == t.dtype
