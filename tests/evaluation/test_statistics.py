from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from ddrl.errors import DataError, UsageError
from ddrl.evaluation.measures.fidelity import Reference
from ddrl.evaluation.measures.statistics import (
    Basis,
    Beside,
    Interval,
    Unit,
    jackknife_interval,
    mean_interval,
    over_seeds,
)

T9 = 2.262157
"""The 97.5 % quantile of Student's t at nine degrees of freedom."""


def crossed(
    num_prompts: int, per_prompt: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Samples of prompts: standard deviation 1 between prompts and 0.3 within."""
    values = rng.standard_normal((num_prompts, 1)) + 0.3 * rng.standard_normal(
        (num_prompts, per_prompt)
    )
    return values.ravel(), np.repeat(np.arange(num_prompts), per_prompt)


@pytest.mark.parametrize(
    ("num_prompts", "per_prompt", "least", "most"), [(10, 16, 0.92, 0.98), (40, 8, 0.93, 0.97)]
)
def test_coverage_of_the_mean_over_prompts(
    num_prompts: int, per_prompt: int, least: float, most: float
) -> None:
    rng, hits, fell = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        got = mean_interval(*crossed(num_prompts, per_prompt, rng), unit="prompt")
        hits += got.low <= 0.0 <= got.high
        fell += got.high < 0.0
    assert least <= hits / 1000 <= most
    assert fell / 1000 <= 0.04, "a change of nothing, said to have fallen"


def test_samples_are_the_unit_only_within_prompts_that_are_all_there_are() -> None:
    rng, hits = np.random.default_rng(1), np.zeros(2)
    effect = rng.standard_normal((10, 1))
    ids = np.repeat(np.arange(10), 16)
    for _ in range(400):
        values = (effect + 0.3 * rng.standard_normal((10, 16))).ravel()
        for place, unit in enumerate(("sample", "prompt")):
            got = mean_interval(values, ids, unit=unit)  # type: ignore[arg-type]
            hits[place] += got.low <= effect.mean() <= got.high
    assert 0.92 <= hits[0] / 400 <= 0.98
    assert hits[1] == 400, "whole prompts are far too wide for prompts that stay the same"


def test_the_mean_of_equal_prompts_has_the_t_interval_of_their_means() -> None:
    values, ids = crossed(10, 4, np.random.default_rng(3))
    means = values.reshape(10, 4).mean(1)
    half = T9 * means.std(ddof=1) / math.sqrt(10)
    got = mean_interval(values, ids, unit="prompt")
    assert got.value == pytest.approx(means.mean())
    assert (got.low, got.high) == pytest.approx((means.mean() - half, means.mean() + half))
    assert got.basis == Basis("prompt", 10, 40)


@pytest.mark.parametrize("num_prompts", [1, 2, 4])
@pytest.mark.parametrize("per_prompt", [1, 2, 50])
def test_few_prompts_have_no_interval(num_prompts: int, per_prompt: int) -> None:
    values, ids = crossed(num_prompts, per_prompt, np.random.default_rng(0))
    got = mean_interval(values, ids, unit="prompt")
    assert got.value == pytest.approx(values.mean())
    assert math.isnan(got.low)
    assert math.isnan(got.high)
    assert not got.has_ends
    assert not got.is_finite
    assert got.basis == Basis("prompt", num_prompts, num_prompts * per_prompt)
    more, ids = crossed(5, per_prompt, np.random.default_rng(0))
    assert mean_interval(more, ids, unit="prompt").has_ends


def test_prompts_with_few_samples_are_the_unit_themselves() -> None:
    values, ids = crossed(10, 4, np.random.default_rng(0))
    got = mean_interval(values, ids, unit="sample")
    assert got.basis == Basis("prompt", 10, 40)
    assert got == mean_interval(values, ids, unit="prompt")


def test_one_prompt_that_is_all_there_is_has_an_interval_over_its_samples() -> None:
    values = np.random.default_rng(0).standard_normal(50)
    got = mean_interval(values, np.zeros(50, dtype=np.int64), unit="sample")
    assert got.high - got.value == pytest.approx(
        2.0096 * values.std(ddof=1) / math.sqrt(50), rel=1e-3
    )
    assert not mean_interval(values[:4], np.zeros(4, dtype=np.int64), unit="sample").has_ends


def test_missing_values_are_left_out_and_counted() -> None:
    values, ids = crossed(6, 2, np.random.default_rng(0))
    values[[0, 1, 4]] = math.nan
    got = mean_interval(values, ids, unit="prompt")
    assert got.value == pytest.approx(np.nanmean(values))
    assert got.basis == Basis("prompt", 5, 9)
    assert math.isnan(mean_interval(np.full(4, math.nan), np.arange(4), unit="prompt").value)


@pytest.mark.parametrize("unit", ["prompt", "sample"])
def test_neither_order_nor_numbering_matter(unit: Unit) -> None:
    values, ids = crossed(12, 5, np.random.default_rng(5))
    order = np.random.default_rng(6).permutation(60)
    wanted = mean_interval(values, ids, unit="prompt")
    got = mean_interval(values[order], 100 - 3 * ids[order], unit="prompt")
    assert (got.low, got.high) == pytest.approx((wanted.low, wanted.high))
    a = mean_interval(values, ids, unit=unit)
    b = mean_interval(values, 7 * ids, unit=unit)
    assert (a.low, a.high) == pytest.approx((b.low, b.high))


def test_many_prompts_are_left_out_several_at_a_time() -> None:
    calls = []

    def mean(rows: NDArray[np.intp]) -> float:
        calls.append(len(rows))
        return float(values[rows].mean())

    values = np.random.default_rng(0).standard_normal(1000)
    got = jackknife_interval(mean, np.arange(1000), unit="prompt")
    assert len(calls) == 65
    assert got.high - got.value == pytest.approx(2.0 * values.std() / math.sqrt(1000), rel=0.3)


@pytest.mark.parametrize(("unit", "shift"), [("prompt", 0.0), ("prompt", 1.0), ("sample", 0.5)])
def test_a_distance_that_grows_with_fewer_samples_keeps_its_interval_around_it(
    unit: Unit, shift: float
) -> None:
    """Coverage of the distance that so many samples have on average."""
    rng, found = np.random.default_rng(0), []
    reference = Reference(rng.standard_normal((300, 4)))
    effect, ids = rng.standard_normal((12, 1, 4)), np.repeat(np.arange(12), 10)
    for _ in range(120):
        of_prompt = rng.standard_normal((12, 1, 4)) if unit == "prompt" else effect
        x = (of_prompt + rng.standard_normal((12, 10, 4))).reshape(-1, 4) / math.sqrt(2) + shift
        got = jackknife_interval(
            lambda rows, x=x: reference.distance(x[rows]),  # type: ignore[misc]
            ids,
            unit=unit,
        )
        assert got.low + got.high == pytest.approx(2 * got.value)
        found.append(got)
    truth = np.mean([one.value for one in found])
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.9


def test_both_sides_are_drawn_where_data_are_compared() -> None:
    """A ratio of means: its interval is that of the ratio with samples and data as prompts come."""
    rng, hits = np.random.default_rng(0), 0
    ids, real_id = np.repeat(np.arange(20), 4), np.repeat(np.arange(25), 2)
    for _ in range(300):
        effect = 5 + rng.standard_normal(25)
        mine = effect[ids] + 0.3 * rng.standard_normal(80)
        real = effect[real_id] + 0.3 * rng.standard_normal(50)
        got = Beside(ids, real_id, "prompt").interval(
            lambda a, b, x=mine, y=real: float(x[a].mean() / y[b].mean())  # type: ignore[misc]
        )
        hits += got.low <= 1.0 <= got.high
    assert got.basis == Basis("prompt", 20, 80), "data of other prompts are not looked at"
    assert 0.92 <= hits / 300 <= 0.98


def test_over_seeds() -> None:
    three = over_seeds([Interval.exact(v) for v in (0.0, 1.0, 2.0)])
    half = 4.302653 / math.sqrt(3)
    assert (three.value, three.low, three.high) == pytest.approx((1.0, 1 - half, 1 + half))
    same = over_seeds([Interval(1.0, 0.5, 1.5)] * 4)
    assert (same.low, same.high) == pytest.approx((0.5, 1.5)), "all seeds have the same prompts"
    assert over_seeds([Interval(1.0, 0.5, 1.5)]) == Interval(1.0, 0.5, 1.5)


@pytest.mark.parametrize(
    "per_seed",
    [
        [Interval.exact(1.0)],
        [Interval.alone(1.0)],
        [Interval.alone(0.5), Interval(1.5, 1.0, 2.0)],
        [Interval.exact(1.0), Interval.alone(math.nan)],
    ],
)
def test_one_seed_or_seeds_without_an_interval_have_none(per_seed: list[Interval]) -> None:
    found = over_seeds(per_seed)
    assert found.value == 1.0
    assert not found.has_ends


def test_no_seed_has_no_figure() -> None:
    assert math.isnan(over_seeds([Interval.alone(math.nan)]).value)
    assert math.isnan(over_seeds([]).value)


def test_a_higher_level_is_wider() -> None:
    values, ids = crossed(10, 4, np.random.default_rng(2))
    narrow = mean_interval(values, ids, unit="prompt", level=0.5)
    wide = mean_interval(values, ids, unit="prompt", level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_statistic_that_is_not_finite_has_no_interval() -> None:
    ids = np.arange(8)
    assert not jackknife_interval(lambda _: math.inf, ids, unit="prompt").has_ends
    some = jackknife_interval(lambda rows: 1.0 if 0 in rows else math.nan, ids, unit="prompt")
    assert some.value == 1.0
    assert not some.has_ends


def test_bad_input() -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        mean_interval(np.arange(9.0), np.arange(9), unit="prompt", level=1.0)
    with pytest.raises(DataError, match="at least one sample"):
        jackknife_interval(lambda _: 0.0, np.zeros(0, dtype=np.int64), unit="prompt")
