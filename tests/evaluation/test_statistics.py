from __future__ import annotations

import numpy as np
import pytest

from ddrl.errors import DataError, UsageError
from ddrl.evaluation.fidelity import frechet_distance
from ddrl.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    clustered_bootstrap_interval,
)


def test_width_is_that_of_the_standard_error() -> None:
    values = np.random.default_rng(0).standard_normal(400)
    got = bootstrap_interval(values, num_resamples=4000, seed=1)
    half = 1.96 * values.std() / 20.0
    assert got.value == pytest.approx(values.mean())
    assert got.high - got.value == pytest.approx(half, rel=0.1)
    assert got.value - got.low == pytest.approx(half, rel=0.1)


def test_coverage_on_gaussian_data() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        got = bootstrap_interval(rng.normal(2.0, 1.0, 50), num_resamples=300, seed=trial)
        hits += got.low <= 2.0 <= got.high
    assert 0.90 <= hits / 300 <= 0.98


def test_coverage_of_clusters_where_single_samples_promise_too_much() -> None:
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(40), 10)
    hits = np.zeros(2)
    for trial in range(100):
        values = np.repeat(rng.standard_normal(40), 10) + 0.3 * rng.standard_normal(400)
        grouped = clustered_bootstrap_interval(values, cluster, num_resamples=200, seed=trial)
        single = bootstrap_interval(values, num_resamples=200, seed=trial)
        hits += [grouped.low <= 0 <= grouped.high, single.low <= 0 <= single.high]
    assert 0.88 <= hits[0] / 100 <= 1.0
    assert hits[1] / 100 < 0.6


def test_clusters_of_one_are_single_samples() -> None:
    values = np.random.default_rng(3).standard_normal(30)
    a = clustered_bootstrap_interval(values, np.arange(30), seed=5)
    assert a == bootstrap_interval(values, seed=5)


def test_the_order_of_samples_inside_clusters_does_not_matter() -> None:
    values = np.arange(12.0)
    cluster = np.arange(12) % 3
    order = np.argsort(cluster, kind="stable")
    a = clustered_bootstrap_interval(values, cluster, seed=5)
    b = clustered_bootstrap_interval(values[order], cluster[order], seed=5)
    assert (a.low, a.high) == pytest.approx((b.low, b.high))


def test_only_the_seed_decides_and_global_state_is_left_alone() -> None:
    values = np.random.default_rng(3).standard_normal(30)
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    first = bootstrap_interval(values, seed=9)
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    assert repr(before) == repr(after)
    assert bootstrap_interval(values, seed=9) == first
    assert bootstrap_interval(values, seed=10) != first


def test_other_statistics_and_rows() -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((60, 3))
    real = rng.standard_normal((60, 3))
    raw = bootstrap_interval(rows, lambda x: frechet_distance(x, real), num_resamples=200, seed=0)
    centred = bootstrap_interval(
        rows, lambda x: frechet_distance(x, real), num_resamples=200, recentre=True, seed=0
    )
    assert raw.value == centred.value == frechet_distance(rows, real)
    assert centred.high < raw.high
    assert centred.high - centred.low == pytest.approx(raw.high - raw.low)
    assert centred.low < centred.value < centred.high


def test_a_higher_level_is_wider() -> None:
    values = np.random.default_rng(2).standard_normal(50)
    narrow = bootstrap_interval(values, level=0.5, seed=0)
    wide = bootstrap_interval(values, level=0.99, seed=0)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_constant_values_have_no_width() -> None:
    assert bootstrap_interval(np.full(5, 3.0), seed=0) == Interval.exact(3.0)


def test_finite() -> None:
    assert Interval(0.0, -1.0, 1.0).is_finite
    assert not Interval(0.0, -1.0, float("inf")).is_finite


def test_bad_input() -> None:
    values = np.arange(3.0)
    with pytest.raises(UsageError, match="between 0 and 1"):
        bootstrap_interval(values, level=1.0, seed=0)
    with pytest.raises(UsageError, match="at least one resample"):
        bootstrap_interval(values, num_resamples=0, seed=0)
    with pytest.raises(DataError, match="at least one sample"):
        bootstrap_interval(np.zeros(0), seed=0)
    with pytest.raises(DataError, match="finite"):
        bootstrap_interval(np.array([0.0, np.nan]), seed=0)
    with pytest.raises(DataError, match="one id for each of the 3"):
        clustered_bootstrap_interval(values, np.zeros(2, dtype=np.int64), seed=0)
