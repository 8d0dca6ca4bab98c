"""Figures of hand-made samples: each by hand, and the verdict that follows."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.jobs.hand_bench import IDS, clouds, find, judge, make_bench, row

from ddrl.jobs.evaluate.measure import measure_model

Numbers = NDArray[np.float64]


def test_variety_is_that_of_samples_over_that_of_data() -> None:
    bench = make_bench(clouds(), IDS)
    got = row(bench, find(clouds(spread=0.5), IDS), find(clouds(), IDS))
    assert got.diversity.value == pytest.approx(0.5)
    assert got.diversity_change.value == pytest.approx(-0.5)
    assert got.diversity_change.high == pytest.approx(-0.5), "the same share in every prompt"
    assert got.vendi.value < 1.0
    assert got.vendi_change.value == pytest.approx(got.vendi.value - 1.0)
    twice = row(bench, find(clouds(spread=2.0), IDS), find(clouds(), IDS))
    assert twice.diversity.value == pytest.approx(2.0)
    assert twice.vendi.value > 1.0


def test_variety_is_compared_with_data_of_the_sampled_prompts_alone() -> None:
    real, more = clouds(1), 40 * np.random.default_rng(2).standard_normal((80, 4))
    ids = np.concatenate([IDS, np.repeat(np.arange(6, 16), 8)])
    few = make_bench(real, IDS)
    many = make_bench(np.concatenate([real, more]), ids)
    run = find(clouds(3), IDS)
    for name in ("diversity", "vendi", "diversity_change"):
        assert getattr(row(few, run, run), name) == getattr(row(many, run, run), name)
    (shift,) = row(many, run, run).pixels
    assert shift.data == pytest.approx(real[:, 0].mean())


@pytest.mark.parametrize(("prompts", "each"), [(6, 1), (40, 1), (6, 8), (30, 2)])
def test_a_perfect_model_is_as_varied_as_data(prompts: int, each: int) -> None:
    """Fresh data: also where each prompt has one real picture, and the prompts stand together."""
    ids, real_id = np.repeat(np.arange(prompts), 8), np.repeat(np.arange(prompts), each)
    found = []
    for seed in range(24):
        bench = make_bench(clouds(seed, prompts=prompts, each=each), real_id)
        run = find(clouds(1000 + seed, prompts=prompts), ids)
        found.append(row(bench, run, run))
    assert np.mean([one.diversity.value for one in found]) == pytest.approx(1.0, abs=0.06)
    assert np.mean([one.vendi.value for one in found]) == pytest.approx(1.0, abs=0.06)


def test_a_repeated_picture_of_prompts_with_one_real_picture_each() -> None:
    ids = np.repeat(np.arange(12), 8)
    bench = make_bench(clouds(0, prompts=12, each=1), np.arange(12))
    one = np.tile(clouds(5, prompts=1, each=1), (96, 1))
    got = row(bench, find(one, ids), find(clouds(3, prompts=12), ids))
    assert got.diversity.value == 0.0
    assert got.vendi.value < 0.5
    assert got.vendi_change.high < 0
    assert got.diversity_change.high < 0


def test_most_prompts_with_several_real_pictures_are_looked_into() -> None:
    """Prompts that have one real picture do not make the others be pooled."""
    real_id = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5])
    real = np.concatenate([clouds(0, prompts=6, each=2)[:10], clouds(0, prompts=6, each=2)[10:11]])
    flat = find(clouds(4, spread=0.0), IDS)
    got = row(make_bench(real, real_id), flat, find(clouds(3), IDS))
    assert got.diversity.value == pytest.approx(0.0, abs=1e-9)
    assert got.diversity.basis is not None
    assert got.diversity.basis.num_prompts == 5


def test_data_without_variety_give_no_ratio() -> None:
    bench = make_bench(np.ones((12, 4)), np.repeat(np.arange(6), 2))
    got = row(bench, find(clouds(), IDS), find(clouds(), IDS))
    assert math.isnan(got.diversity.value)
    assert math.isnan(got.vendi.value)
    lonely = make_bench(np.ones((1, 4)), np.zeros(1, dtype=np.int64))
    few = find(clouds(prompts=1), np.zeros(8, dtype=np.int64))
    assert math.isnan(row(lonely, few, few).diversity.value)


def test_drift_is_a_share_of_the_base_and_paired() -> None:
    bench = make_bench(clouds(), IDS)
    before = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 8)
    run, base = find(clouds(), IDS, losses=1.1 * before), find(clouds(), IDS, losses=before)
    drift = row(bench, run, base).drift
    assert drift.value == pytest.approx(0.1)
    assert (drift.low, drift.high) == pytest.approx((0.1, 0.1))
    assert row(bench, base, base).drift.high == 0.0


def test_the_interval_of_the_distance_lies_around_it() -> None:
    bench = make_bench(clouds(0, each=20), np.repeat(np.arange(6), 20))
    got = row(bench, find(clouds(1), IDS), find(clouds(2), IDS)).frechet
    assert got.low < got.value < got.high
    assert got.low + got.high == pytest.approx(2 * got.value)


@pytest.mark.parametrize("num", [0, 1])
def test_a_distance_of_too_few_features_is_unknown_and_not_perfect(num: int) -> None:
    ids = np.zeros(1, dtype=np.int64)
    bench = make_bench(np.ones((1, 4)), ids)
    one = find(np.ones((num + 1, 4)), np.zeros(num + 1, dtype=np.int64))
    quick = measure_model(bench, one, one, name="run", quick=True)
    assert math.isnan(quick.frechet.value)
    assert math.isnan(row(bench, one, one).frechet.value)


def test_of_few_prompts_no_figure_has_an_interval() -> None:
    """A report of two pictures."""
    ids, real_id = np.zeros(2, dtype=np.int64), np.zeros(8, dtype=np.int64)
    bench = make_bench(clouds(prompts=1), real_id)
    run = find(clouds(3, prompts=1, each=2), ids, reward=np.array([583.0, 666.0]))
    got = row(bench, run, run)
    for figure in (got.reward, got.frechet, got.diversity, got.vendi, got.pixels[0].difference):
        assert math.isfinite(figure.value)
        assert not figure.has_ends
    verdict = judge(bench, run, run)
    assert verdict.status == "not conclusive"
    assert "whether the reward rose can't be told from so few prompts" in verdict.reasons


def test_the_unit_is_the_sample_only_where_all_prompts_of_training_are_sampled() -> None:
    base = find(clouds(), IDS, reward=np.arange(48.0))
    units = {}
    for whole in (False, True):
        bench = make_bench(clouds(), IDS, whole=whole)
        got = row(bench, base, base)
        found = {
            one.basis.unit
            for one in (got.reward, got.frechet, got.diversity, got.drift, got.pixels[0].moved)
            if one.basis is not None
        }
        (units[whole],) = found
        fewer = dataclasses.replace(bench, prompts=bench.prompts[:5])
        assert fewer.unit == "prompt", "one of the prompts is not sampled"
        assert fewer.drift_unit == ("sample" if whole else "prompt"), "all of them are held out"
    assert units == {False: "prompt", True: "sample"}


def test_prompts_with_given_frames_are_never_all_there_are() -> None:
    """The texts are the same, the frames others."""
    bench = make_bench(clouds(), IDS, whole=True)
    data = bench.recipe.data.model_copy(update={"given_frames": 1})
    given = dataclasses.replace(bench, recipe=bench.recipe.model_copy(update={"data": data}))
    assert (bench.unit, given.unit, given.drift_unit) == ("sample", "prompt", "prompt")


def clips(rate: float, num: int = 48) -> Numbers:
    """Four frames in one dimension that move by the rate."""
    start = np.random.default_rng(0).standard_normal((num, 1, 1)) + 5
    return start + rate * np.arange(4.0)[None, :, None]


def test_motion_is_a_ratio_to_data() -> None:
    bench = make_bench(clouds(), IDS, frames=clips(2.0))
    run, base = find(clouds(), IDS, frames=clips(3.0)), find(clouds(), IDS, frames=clips(2.0))
    got = row(bench, run, base)
    assert got.temporal_change.value == pytest.approx(1.5)
    assert got.temporal_change.has_ends
    assert got.temporal_consistency.value == pytest.approx(1.0)
    assert got.motion_moved.value == pytest.approx(math.log(1.5))
    assert got.temporal_frechet.value > row(bench, base, base).temporal_frechet.value
    assert math.isnan(row(make_bench(clouds(), IDS), run, base).temporal_change.value)


def test_pixels_are_beside_data_and_the_base() -> None:
    real = clouds()
    bench = make_bench(real, IDS)
    spread = real[:, 0].std()
    run, base = real.copy(), real.copy()
    run[:, 0] += 3 * spread
    base[:, 0] -= spread
    (shift,) = row(bench, find(run, IDS), find(base, IDS)).pixels
    assert shift.difference.value == pytest.approx(3.0)
    assert shift.moved.value == pytest.approx(2.0)
    assert shift.data == pytest.approx(real[:, 0].mean())
    assert shift.mean == pytest.approx(real[:, 0].mean() + 3 * spread)


def test_measures_are_paired_with_the_base() -> None:
    bench = make_bench(clouds(), IDS, judges=["sharp"])
    before = np.random.default_rng(0).standard_normal(48)
    after = before - 0.5
    after[3] = math.nan
    base = find(clouds(), IDS, measures={"sharp": before, "ink": before})
    got = row(bench, find(clouds(), IDS, measures={"sharp": after, "ink": before + 1}), base)
    sharp, ink = got.measures
    assert (sharp.kind, ink.kind) == ("judge", "held-out reward")
    assert sharp.change.value == pytest.approx(-0.5)
    assert sharp.change.high == pytest.approx(-0.5)
    assert sharp.value.value == pytest.approx(np.nanmean(after))
    assert sharp.scale == pytest.approx(np.delete(before, 3).std())
    assert ink.change.value == pytest.approx(1.0)


def test_the_base_is_told_from_runs() -> None:
    bench, base = make_bench(clouds(), IDS), find(clouds(), IDS)
    start = measure_model(bench, base, base, name="base", is_base=True)
    assert (start.is_base, start.label) == (True, "Base model")
    assert not row(bench, base, base).is_base


def test_the_cause_of_a_missing_value_stands_beside_its_measure() -> None:
    found = find(clouds(), IDS, measures={"sharp": np.full(48, math.nan), "ink": np.ones(48)})
    values = dataclasses.replace(found.values, causes={"sharp": "it is down"})
    got = row(make_bench(clouds(), IDS), dataclasses.replace(found, values=values), found)
    assert [one.cause for one in got.measures] == ["it is down", ""]
    assert math.isnan(got.measures[0].scale)


def test_clips_of_one_frame_do_not_move() -> None:
    bench = make_bench(clouds(), IDS, frames=clips(2.0)[:, :1])
    one = find(clouds(), IDS, frames=clips(3.0)[:, :1])
    assert math.isnan(row(bench, one, one).temporal_change.value)


def test_motion_is_compared_with_data_and_not_with_the_base() -> None:
    bench = make_bench(clouds(), IDS, frames=clips(2.0))
    still, moving = (find(clouds(), IDS, frames=clips(rate)) for rate in (1.0, 2.0))
    assert row(bench, moving, still).temporal_frechet.value == pytest.approx(0, abs=1e-9)
    assert row(bench, still, moving).motion_moved.value == pytest.approx(math.log(2))
    turned = find(clouds(), IDS, frames=clips(2.0) * np.array([1, -1, 1, -1])[None, :, None])
    assert row(bench, turned, moving).temporal_consistency.value == pytest.approx(-1.0)


def test_without_an_interval_of_distances_there_is_none() -> None:
    bench, base = make_bench(clouds(), IDS), find(clouds(2), IDS)
    quick = measure_model(bench, base, base, name="run", quick=True)
    assert quick.frechet.value == row(bench, base, base).frechet.value
    assert not quick.frechet.has_ends


def test_a_statistic_that_stays_as_far_on_the_other_side_did_not_move() -> None:
    real = clouds()
    run, base = real.copy(), real.copy()
    run[:, 0] -= 2.0
    base[:, 0] += 2.0
    (shift,) = row(make_bench(real, IDS), find(run, IDS), find(base, IDS)).pixels
    assert shift.moved.value == pytest.approx(0.0, abs=1e-9)
    assert shift.difference.value == pytest.approx(-2.0 / real[:, 0].std())


def test_the_distance_s_interval_is_over_prompts() -> None:
    """Prompts that differ more than their samples."""
    ids = np.repeat(np.arange(6), 20)
    values = find(clouds(1, spread=0.1, each=20), ids)
    widths = []
    for whole in (True, False):
        got = row(make_bench(clouds(0, each=20), ids, whole=whole), values, values).frechet
        assert got.basis is not None
        assert got.basis.unit == ("sample" if whole else "prompt")
        widths.append(got.high - got.low)
    assert widths[1] > 2 * widths[0]


def test_the_unit_of_a_measure_is_the_base_s_spread() -> None:
    quality = np.random.default_rng(0).standard_normal(48)
    base = find(clouds(), IDS, measures={"sharp": quality})
    (got,) = row(
        make_bench(clouds(), IDS), find(clouds(), IDS, measures={"sharp": 3 * quality}), base
    ).measures
    assert got.scale == pytest.approx(quality.std())
