"""A model's samples to its row of the audit: each figure with its interval, and beside the base."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddrl.evaluation.findings.signs import off
from ddrl.evaluation.measures.fidelity import Reference
from ddrl.evaluation.measures.pixels import RANGES, centre_and_spread
from ddrl.evaluation.measures.result import UNKNOWN, Measured, PixelShift, RunResult
from ddrl.evaluation.measures.statistics import (
    Beside,
    Interval,
    Rows,
    Unit,
    jackknife_interval,
    mean_interval,
)
from ddrl.evaluation.measures.temporal import (
    temporal_change,
    temporal_consistency,
    temporal_features,
)
from ddrl.evaluation.measures.variety import Variety, measure_variety
from ddrl.jobs.evaluate.bench import Bench, Values

Numbers = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """What was found of one model, sample by sample.

    Attributes:
        losses: of the held-out data, (M,).
        values: of its samples.
    """

    losses: Numbers
    values: Values


def measure_model(
    bench: Bench,
    found: Found,
    base: Found,
    *,
    name: str,
    is_base: bool = False,
    quick: bool = False,
) -> RunResult:
    """All figures of a model.

    Args:
        bench: what it was measured with.
        found: of the model.
        base: of the base, at the same prompts and noise.
        name: of the run.
        is_base: whether the model is the base itself.
        quick: leave out the intervals of Fréchet distances, which cost an eigendecomposition for
            each part left out, and which no verdict needs.
    """
    values = found.values
    reward, reward_change = reward_figures(bench, values, base.values)
    variety = variety_figures(bench, values, base.values)
    motion = motion_figures(bench, values, base.values, quick=quick)
    held = bench.corpus.heldout.caption_id.numpy()
    return RunResult(
        name=name,
        label="Base model" if is_base else name,
        method="Flow matching, before post-training" if is_base else "",
        is_base=is_base,
        reward=reward,
        reward_change=reward_change,
        frechet=frechet_interval(bench, values, values.features, bench.real.features, quick=quick),
        diversity=variety.diversity,
        diversity_change=variety.diversity_change,
        vendi=variety.vendi,
        real_vendi=variety.real_vendi,
        vendi_change=variety.vendi_change,
        heldout_loss_change=drift_interval(found.losses, base.losses, held, unit=bench.drift_unit),
        measures=measured(bench, values, base.values),
        pixels=pixel_shifts(bench, values, base.values),
        temporal_frechet=motion.frechet,
        temporal_change=motion.change,
        temporal_consistency=motion.consistency,
        motion_moved=motion.moved,
    )


def reward_figures(bench: Bench, values: Values, base: Values) -> tuple[Interval, Interval]:
    """The trained reward, and its change paired with the base."""
    ids, unit = values.prompt_id, bench.unit
    change = values.reward - base.reward
    return mean_interval(values.reward, ids, unit=unit), mean_interval(change, ids, unit=unit)


def measured(bench: Bench, values: Values, base: Values) -> tuple[Measured, ...]:
    """Judges and held-out rewards, with their paired changes against the base."""
    ids, unit = values.prompt_id, bench.unit
    found = []
    for name, numbers in values.measures.items():
        before = base.measures[name]
        both = np.isfinite(numbers) & np.isfinite(before)
        found.append(
            Measured(
                name=name,
                kind="judge" if name in bench.judges else "held-out reward",
                value=mean_interval(numbers, ids, unit=unit),
                change=mean_interval(numbers - before, ids, unit=unit),
                scale=float(np.std(before[both])) if both.any() else math.nan,
                cause=values.causes.get(name, ""),
            )
        )
    return tuple(found)


def pixel_shifts(bench: Bench, values: Values, base: Values) -> tuple[PixelShift, ...]:
    """Each statistic of pixels beside real data, and how much farther from it than the base.

    The mean is of real data of the sampled prompts; the spread, the unit, of all of it.
    """
    beside, shown = _beside(bench, values), _sampled(bench, values)
    found = []
    for name, numbers in values.pixels.items():
        real, before = bench.real.pixels[name], base.pixels[name]
        _, spread = centre_and_spread(real, largest=RANGES[name])

        def shift(rows: Rows, real_rows: Rows) -> float:
            return float(numbers[rows].mean() - real[real_rows].mean()) / spread  # noqa: B023

        def moved(rows: Rows, real_rows: Rows) -> float:
            centre = real[real_rows].mean()  # noqa: B023
            ends = [abs(float(x[rows].mean() - centre)) for x in (numbers, before)]  # noqa: B023
            return (ends[0] - ends[1]) / spread  # noqa: B023

        found.append(
            PixelShift(
                name=name,
                mean=float(numbers.mean()),
                data=float(real[shown].mean()),
                difference=beside.interval(shift),
                moved=beside.interval(moved),
            )
        )
    return tuple(found)


def frechet_interval(
    bench: Bench, values: Values, features: Numbers, real: Numbers, *, quick: bool = False
) -> Interval:
    """The Fréchet distance to real features, which are given; NaN where there are fewer than two.

    The distance grows as samples become fewer. It does so by the same for every part that is left
    out, so that its interval lies around the value.
    """
    if min(len(real), len(features)) < 2:
        return UNKNOWN
    reference = Reference(real)
    if quick:
        return Interval.alone(reference.distance(features))
    return jackknife_interval(
        lambda rows: reference.distance(features[rows]), values.prompt_id, unit=bench.unit
    )


def variety_figures(bench: Bench, values: Values, base: Values) -> Variety:
    """Mean distance and Vendi score as ratios to held-out data of the sampled prompts."""
    return measure_variety(
        values.features,
        base.features,
        values.prompt_id,
        bench.real.features,
        bench.real.prompt_id,
        unit=bench.unit,
    )


@dataclass(frozen=True)
class Motion:
    """How clips move; NaN for images.

    Attributes:
        frechet: distance of temporal features to those of real clips.
        change: mean change between frames, as a ratio to real clips of the sampled prompts.
        consistency: of neighbouring frames, likewise.
        moved: how much farther from 1 the change is than the base's, in logarithms.
    """

    frechet: Interval = UNKNOWN
    change: Interval = UNKNOWN
    consistency: Interval = UNKNOWN
    moved: Interval = UNKNOWN


def motion_figures(bench: Bench, values: Values, base: Values, *, quick: bool = False) -> Motion:
    """How clips move beside real ones and the base's."""
    frames, before, real = values.frames, base.frames, bench.real.frames
    if frames is None or before is None or real is None:
        return Motion()
    if min(frames.shape[1], real.shape[1]) < 2:
        return Motion()
    beside = _beside(bench, values)

    def ratio_of(mine: Numbers, theirs: Numbers, rows: Rows, real_rows: Rows) -> float:
        wanted = float(theirs[real_rows].mean())
        return float(mine[rows].mean()) / wanted if wanted > 0 else math.nan

    change, earlier, wanted = map(temporal_change, (frames, before, real))
    likeness, real_likeness = temporal_consistency(frames), temporal_consistency(real)

    def moved(rows: Rows, real_rows: Rows) -> float:
        ends = [off(ratio_of(one, wanted, rows, real_rows)) for one in (change, earlier)]
        return ends[0] - ends[1] if all(map(math.isfinite, ends)) else math.nan

    return Motion(
        frechet=frechet_interval(
            bench, values, temporal_features(frames), temporal_features(real), quick=quick
        ),
        change=beside.interval(lambda rows, of: ratio_of(change, wanted, rows, of)),
        consistency=beside.interval(lambda rows, of: ratio_of(likeness, real_likeness, rows, of)),
        moved=beside.interval(moved),
    )


def drift_interval(losses: Numbers, base: Numbers, caption_id: Ids, *, unit: Unit) -> Interval:
    """Change of the held-out loss as a share; each sample is paired with itself at the base."""
    return jackknife_interval(
        lambda rows: float(losses[rows].mean() / base[rows].mean() - 1), caption_id, unit=unit
    )


def _sampled(bench: Bench, values: Values) -> NDArray[np.bool_]:
    """The real data of sampled prompts."""
    return np.isin(bench.real.prompt_id, values.prompt_id)


def _beside(bench: Bench, values: Values) -> Beside:
    return Beside(values.prompt_id, bench.real.prompt_id, bench.unit)
