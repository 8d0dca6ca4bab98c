"""Eqs. (P1) to (P3): conversions are inverse to each other, derivatives are derivatives."""

from __future__ import annotations

import math

import jaxtyping
import pytest
import torch
from torch import Tensor

from ddrl.diffusion.process import (
    Prediction,
    Process,
    RectifiedFlow,
    VariancePreserving,
    per_row,
)

PROCESSES = [
    pytest.param(RectifiedFlow(), id="rectified_flow"),
    pytest.param(VariancePreserving(), id="vp"),
    pytest.param(VariancePreserving(beta_min=0.5, beta_max=12.0), id="vp_other_rate"),
]
PREDICTIONS: list[Prediction] = ["velocity", "noise", "x0", "v"]
TIMES = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)


def pair(rows: int, shape: tuple[int, ...] = (2, 3)) -> tuple[Tensor, Tensor]:
    """A clean batch and its noise, float64."""
    generator = torch.Generator().manual_seed(5)
    both = torch.randn(2, rows, *shape, generator=generator, dtype=torch.float64)
    return both[0], both[1]


@pytest.mark.parametrize("process", PROCESSES)
def test_derivatives_equal_autograd(process: Process) -> None:
    t = TIMES.clone().requires_grad_()
    (alpha_dot,) = torch.autograd.grad(process.alpha(t).sum(), t)
    (sigma_dot,) = torch.autograd.grad(process.sigma(t).sum(), t)
    torch.testing.assert_close(process.alpha_dot(TIMES), alpha_dot, rtol=1e-10, atol=0)
    torch.testing.assert_close(process.sigma_dot(TIMES), sigma_dot, rtol=1e-10, atol=0)


@pytest.mark.parametrize("process", PROCESSES)
def test_ends_and_direction(process: Process) -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    alpha, sigma = process.alpha(ends).tolist(), process.sigma(ends).tolist()
    assert (alpha[0], sigma[0]) == (1.0, 0.0)
    assert alpha[1] < 0.05
    assert sigma[1] > 0.998
    assert (process.alpha(TIMES).diff() < 0).all()
    assert (process.sigma(TIMES).diff() > 0).all()
    assert (process.det(TIMES) > 0).all()


def test_rectified_flow_is_the_straight_line() -> None:
    process = RectifiedFlow()
    x0, noise = pair(7)
    t = per_row(TIMES, x0)
    torch.testing.assert_close(process.add_noise(x0, noise, TIMES), (1 - t) * x0 + t * noise)
    torch.testing.assert_close(process.velocity(x0, noise, TIMES), noise - x0)
    torch.testing.assert_close(process.det(TIMES), torch.ones_like(TIMES))


def test_vp_keeps_the_variance_and_its_linear_rate() -> None:
    process = VariancePreserving(beta_min=0.2, beta_max=15.0)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(process.alpha(t) ** 2 + process.sigma(t) ** 2, torch.ones_like(t))
    rate = 0.2 + 14.8 * t
    integral = torch.cumulative_trapezoid(rate, t)  # exact: the rate is linear
    torch.testing.assert_close(-2 * process.alpha(t)[1:].log(), integral)


def test_vp_sigma_keeps_its_digits_near_zero() -> None:
    process = VariancePreserving()
    t = torch.tensor([1e-6, 1e-4], dtype=torch.float32)
    exact = [math.sqrt(-math.expm1(-v * 0.1 - 0.5 * v * v * 19.9)) for v in t.tolist()]
    torch.testing.assert_close(process.sigma(t), torch.tensor(exact), rtol=2e-6, atol=0)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_velocity_gives_back_data_noise_and_score(process: Process, dtype: torch.dtype) -> None:
    x0, noise = (x.to(dtype) for x in pair(7))
    t = TIMES.to(dtype)
    x_t, v = process.add_noise(x0, noise, t), process.velocity(x0, noise, t)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    score = -noise / per_row(process.sigma(t), x0)
    for found, expected in (
        (process.to_x0(x_t, v, t), x0),
        (process.to_noise(x_t, v, t), noise),
        (process.score(x_t, v, t), score),
    ):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("process", PROCESSES)
def test_score_is_the_gradient_of_the_log_density(process: Process) -> None:
    x0, noise = pair(7)
    x_t = process.add_noise(x0, noise, TIMES).requires_grad_()
    mean, std = per_row(process.alpha(TIMES), x0) * x0, per_row(process.sigma(TIMES), x0)
    normal = torch.distributions.Normal(mean, std.expand_as(mean))
    log_density: Tensor = normal.log_prob(x_t)  # type: ignore[no-untyped-call]
    (expected,) = torch.autograd.grad(log_density.sum(), x_t)
    score = process.score(x_t.detach(), process.velocity(x0, noise, TIMES), TIMES)
    torch.testing.assert_close(score, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_becomes_the_velocity(process: Process, prediction: Prediction) -> None:
    x0, noise = pair(7)
    alpha, sigma = per_row(process.alpha(TIMES), x0), per_row(process.sigma(TIMES), x0)
    v = process.velocity(x0, noise, TIMES)
    outputs = {"velocity": v, "noise": noise, "x0": x0, "v": alpha * noise - sigma * x0}
    x_t = alpha * x0 + sigma * noise
    converted = process.to_velocity(outputs[prediction], x_t, TIMES, prediction=prediction)
    torch.testing.assert_close(converted, v, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(), (4,), (3, 2, 2)])
def test_any_latent_shape(shape: tuple[int, ...]) -> None:
    process = RectifiedFlow()
    x0, noise = pair(7, shape)
    x_t, v = process.add_noise(x0, noise, TIMES), process.velocity(x0, noise, TIMES)
    assert x_t.shape == (7, *shape)
    torch.testing.assert_close(process.to_x0(x_t, v, TIMES), x0)


def test_per_row_multiplies_rows() -> None:
    x = torch.ones(3, 2, 2)
    rows = per_row(torch.tensor([1.0, 2.0, 3.0]), x) * x
    assert rows[:, 1, 1].tolist() == [1, 2, 3]
    assert per_row(torch.zeros(3), x).shape == (3, 1, 1)


def test_times_of_another_length_are_refused() -> None:
    x0, noise = pair(7)
    with pytest.raises(jaxtyping.TypeCheckError):
        RectifiedFlow().add_noise(x0, noise, TIMES[:6])
    with pytest.raises(jaxtyping.TypeCheckError):
        RectifiedFlow().velocity(x0, noise, TIMES[:, None])
    with pytest.raises(jaxtyping.TypeCheckError):
        RectifiedFlow().velocity(x0, noise[:, :1], TIMES)
