"""The data term's error and its times: whatever the law, the sum over trained steps is meant."""

from __future__ import annotations

from typing import Literal

import jaxtyping
import pytest
import torch
from torch import Tensor

from ddrl.diffusion.schedule import time_grid
from ddrl.objective.regularizer import DataTimes, TimeLaw, draw_times, velocity_error

PerSample = Literal["all", "one"]
LAWS: list[TimeLaw] = ["grid", "uniform", "logit_normal"]
PER_SAMPLE: list[PerSample] = ["all", "one"]
GRIDS = [
    pytest.param(time_grid(10), id="uniform"),
    pytest.param(time_grid(10, shift=3.0), id="shift"),
]
SUBSETS = [tuple(range(10)), (0, 2, 3, 9), (5,)]


def midpoints(count: int) -> Tensor:
    """Quadrature nodes of [0, 1), float64."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def rows(num_samples: int, trained: tuple[int, ...], per_sample: PerSample) -> Tensor:
    """Uniforms (M, R), every column the same quadrature: rows need not be independent in a mean."""
    nodes = midpoints(num_samples)[:, None]
    return nodes.expand(-1, len(trained) if per_sample == "all" else 1)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_velocity_error(reduction: Literal["sum", "mean"]) -> None:
    generator = torch.Generator().manual_seed(0)
    v, target = torch.randn(2, 3, 2, 5, generator=generator)
    expected = [float(((v[n] - target[n]) ** 2).sum()) for n in range(3)]
    found = velocity_error(v, target, reduction=reduction)
    scale = 1 if reduction == "sum" else 10
    torch.testing.assert_close(found * scale, torch.tensor(expected))


def test_velocity_error_is_float32_for_half_precision() -> None:
    """Squares and sums of a bfloat16 network's output are not themselves bfloat16."""
    v = torch.full((2, 1000), 1.0625, dtype=torch.bfloat16)
    found = velocity_error(v, torch.ones(2, 1000))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full((2,), 1000 * 0.0625**2))


@pytest.mark.parametrize("trained", SUBSETS, ids=str)
@pytest.mark.parametrize("per_sample", PER_SAMPLE)
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("times", GRIDS)
def test_expectation_is_the_sum_over_trained_steps(
    times: Tensor, law: TimeLaw, per_sample: PerSample, trained: tuple[int, ...]
) -> None:
    """For any f constant on the steps' intervals, by quadrature over the uniforms."""
    num_samples = 200_000
    drawn = draw_times(
        times, trained, rows(num_samples, trained, per_sample), law=law, per_sample=per_sample
    )
    f = (torch.arange(10, dtype=torch.float64) - 2.3) ** 2 + 1
    mean = float((drawn.weight.double() * f[drawn.step]).sum()) / num_samples
    assert mean == pytest.approx(float(f[list(trained)].sum()), rel=5e-3)


@pytest.mark.parametrize("per_sample", PER_SAMPLE)
@pytest.mark.parametrize("law", LAWS)
def test_monte_carlo_too(law: TimeLaw, per_sample: PerSample) -> None:
    """Independent uniforms, as in training."""
    trained, num_samples = (1, 2, 6), 20_000
    uniform = torch.rand(
        num_samples, 3 if per_sample == "all" else 1, generator=torch.Generator().manual_seed(7)
    )
    drawn = draw_times(time_grid(8), trained, uniform, law=law, per_sample=per_sample)
    f = torch.arange(1.0, 9.0)
    samples = (drawn.weight * f[drawn.step]).reshape(num_samples, -1).sum(1)
    error = float(samples.std()) / num_samples**0.5
    assert float(samples.mean()) == pytest.approx(float(f[[1, 2, 6]].sum()), abs=4 * error + 1e-4)


@pytest.mark.parametrize("trained", SUBSETS, ids=str)
@pytest.mark.parametrize("per_sample", PER_SAMPLE)
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("times", GRIDS)
def test_times_lie_in_the_interval_of_their_step(
    times: Tensor, law: TimeLaw, per_sample: PerSample, trained: tuple[int, ...]
) -> None:
    uniform = rows(1000, trained, per_sample)
    drawn = draw_times(times, trained, uniform, law=law, per_sample=per_sample)
    assert len(drawn.time) == uniform.numel()
    assert set(drawn.step.tolist()) <= set(trained)
    assert (drawn.time <= times[drawn.step] + 1e-6).all()
    assert (drawn.time >= times[drawn.step + 1] - 1e-6).all()
    assert (drawn.time > 0).all()
    if law == "grid":
        assert torch.equal(drawn.time, times[drawn.step].float())


@pytest.mark.parametrize("law", ["uniform", "logit_normal"])
def test_times_follow_their_law(law: TimeLaw) -> None:
    """All steps trained: quantiles of the drawn times are the law's own."""
    probability = torch.tensor([0.01, 0.2, 0.5, 0.8, 0.99], dtype=torch.float64)
    # t is drawn by inverting the distribution function, interval by interval from t = 1 down.
    drawn = draw_times(
        time_grid(10), tuple(range(10)), midpoints(100_000)[:, None], law=law, per_sample="one"
    )
    found = drawn.time.double().quantile(probability)
    expected = probability if law == "uniform" else torch.special.ndtri(probability).sigmoid()
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


def test_grid_with_all_rows_is_every_trained_step_once() -> None:
    times = time_grid(4)
    drawn = draw_times(times, (0, 3), torch.zeros(3, 2), law="grid", per_sample="all")
    assert drawn.step.tolist() == [0, 3] * 3
    assert drawn.time.tolist() == [1, 0.25] * 3
    assert drawn.weight.tolist() == [1] * 6


def test_one_row_stands_for_all_steps() -> None:
    uniform = torch.tensor([[0.0], [0.3], [0.6], [0.99]])
    drawn = draw_times(time_grid(4), (0, 1, 3), uniform, law="grid", per_sample="one")
    assert drawn.step.tolist() == [0, 0, 1, 3]
    assert drawn.weight.tolist() == [3] * 4


@pytest.mark.parametrize("trained", [tuple(range(1000)), (0,), (999,), (0, 999)], ids=len)
@pytest.mark.parametrize("law", LAWS)
def test_extreme_uniforms_give_numbers(law: TimeLaw, trained: tuple[int, ...]) -> None:
    extremes = torch.tensor([[0.0], [1e-12], [1 - 1e-9], [1 - 2**-53]], dtype=torch.float64)
    drawn = draw_times(time_grid(1000), trained, extremes, law=law, per_sample="one")
    assert drawn.weight.isfinite().all()
    assert (drawn.weight > 0).all()
    assert drawn.time.isfinite().all()
    assert ((drawn.time > 0) & (drawn.time <= 1)).all()


def test_weights_are_bounded_under_the_logit_normal_law() -> None:
    """One weight per step, 1 / P_k. 1 / p(t) would be right in the mean with infinite variance."""
    uniform = midpoints(100_000)[:, None]
    drawn = draw_times(
        time_grid(10), tuple(range(10)), uniform, law="logit_normal", per_sample="one"
    )
    edges = torch.special.ndtr(torch.logit(time_grid(10)))
    expected = 1 / (edges[:-1] - edges[1:])
    torch.testing.assert_close(drawn.weight, expected[drawn.step].float())
    assert float(drawn.weight.max()) < 72


def test_shapes_are_checked() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        draw_times(time_grid(4), (0,), torch.zeros(3), law="grid", per_sample="one")
    with pytest.raises(jaxtyping.TypeCheckError):
        DataTimes(torch.zeros(3), torch.zeros(3, dtype=torch.int64), torch.zeros(3, 1))
    with pytest.raises(jaxtyping.TypeCheckError):
        velocity_error(torch.zeros(3, 2), torch.zeros(3, 1))
