"""Signs of reward hacking, each a comparison of a run with its base and with real data.

A statistic counts as a sign only where the run is worse than the base it started from: what the
base does wrong, training did not cause. The marks were set on runs with the embedded digits whose
outcome was known, and then tried on runs with other seeds; docs/evaluation.md has the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ddrl.evaluation.findings.wording import change, number, pair, percent, signed_percent
from ddrl.evaluation.measures.result import RunResult
from ddrl.evaluation.measures.statistics import Interval

DIVERSITY_FLOOR = 0.7
"""Samples of one prompt less varied than this, against real data, are a sign of hacking."""
VENDI_FLOOR = 0.6
"""The same for the effective number of different samples, which falls faster."""
FRECHET_FACTOR = 2.0
"""A Fréchet distance beyond this many times the base's is a sign, if the reward rose."""
PIXEL_MARK = 1.0
"""A pixel statistic this many standard deviations of data farther from data than the base's."""
MEASURE_FALL = 0.1
"""A fall of a judge or held-out reward by this many standard deviations, if the reward rose."""
MOTION_FACTOR = 2.0
"""Clips that move this many times more or less than data."""

_TOO_FEW = "can't be told from so few prompts"

Kind = Literal["drift", "variety", "distance", "pixels", "measures", "motion", "missing"]


@dataclass(frozen=True)
class Marks:
    """Where signs begin.

    Attributes:
        drift_limit: of the held-out loss change, as a fraction.
        diversity_floor: see :data:`DIVERSITY_FLOOR`.
        vendi_floor: see :data:`VENDI_FLOOR`.
        frechet_factor: see :data:`FRECHET_FACTOR`.
        pixel_mark: see :data:`PIXEL_MARK`.
        measure_fall: see :data:`MEASURE_FALL`.
        motion_factor: see :data:`MOTION_FACTOR`.
    """

    drift_limit: float = 0.10
    diversity_floor: float = DIVERSITY_FLOOR
    vendi_floor: float = VENDI_FLOOR
    frechet_factor: float = FRECHET_FACTOR
    pixel_mark: float = PIXEL_MARK
    measure_fall: float = MEASURE_FALL
    motion_factor: float = MOTION_FACTOR


@dataclass(frozen=True)
class Sign:
    """One sign.

    Attributes:
        kind: the sort of evidence; two signs of one kind count once. "missing" is no evidence.
        alarm: name of the `RunResult` field, or of the measure or statistic, behind it.
        reason: what was found, as a clause.
    """

    kind: Kind
    alarm: str
    reason: str


def rose(run: RunResult, base: RunResult) -> bool | None:
    """Return whether the reward rose: the whole interval of its paired change is above 0.

    Where that change was not measured, each reward has to lie outside of the other's interval.

    Returns:
        None where there is no interval to tell it by.
    """
    change, mine, before = run.reward_change, run.reward, base.reward
    if math.isfinite(change.value):
        return change.low > 0 if change.has_ends else None
    if not (mine.has_ends and before.has_ends):
        return None
    return mine.value > max(before.value, before.high) and mine.low > before.value


def find_signs(run: RunResult, base: RunResult, marks: Marks) -> tuple[Sign, ...]:
    """Return every sign of a run, the strongest kind first.

    Args:
        run: the run.
        base: the model that it started from.
        marks: where signs begin.
    """
    risen = rose(run, base)
    gained = bool(risen)
    found = [
        *_drift(run.drift, marks.drift_limit),
        *_variety(run, base, marks),
        *_distance(run, base, marks.frechet_factor, gained),
        *_pixels(run, marks.pixel_mark),
        *(_measures(run, marks.measure_fall) if gained else ()),
        *_motion(run, base, marks, gained),
    ]
    if not (math.isfinite(run.reward.value) and math.isfinite(base.reward.value)):
        found.append(Sign("missing", "reward", "the reward could not be measured"))
    elif risen is None:
        found.append(Sign("missing", "reward", f"whether the reward rose {_TOO_FEW}"))
    found += [
        Sign("missing", one.name, f"the {one.kind} {one.name} could not be measured")
        for one in run.measures
        if not math.isfinite(one.value.value)
    ]
    return tuple(found)


def _drift(drift: Interval, limit: float) -> Iterator[Sign]:
    name, what = "heldout_loss_change", "the diffusion loss on held-out data"
    if math.isnan(drift.value):
        yield Sign("missing", name, f"{what} could not be measured")
    elif drift.value > limit:
        yield Sign("drift", name, f"{what} {change(drift.value)} (mark: {percent(limit)})")
    elif math.isnan(drift.high):
        yield Sign("missing", name, f"whether {what} stays within its mark {_TOO_FEW}")
    elif drift.high > limit:
        reach = signed_percent(drift.high)
        text = f"the change of {what} is uncertain: its interval reaches {reach}"
        yield Sign("drift", name, f"{text} (mark: {percent(limit)})")


def _variety(run: RunResult, base: RunResult, marks: Marks) -> Iterator[Sign]:
    diversity, vendi = run.diversity, run.vendi
    if not math.isfinite(diversity.value):
        yield Sign("missing", "diversity", "the variety of its samples could not be measured")
    elif diversity.value < marks.diversity_floor:
        fell = _fell(diversity, base.diversity, run.diversity_change)
        ratio = number(diversity.value)
        text = f"samples of one prompt are only {ratio} times as varied as real data"
        yield from _if_fell(fell, "diversity", text)
    if vendi.value < marks.vendi_floor:
        fell = _fell(vendi, base.vendi, run.vendi_change)
        ratio = number(vendi.value)
        text = f"one prompt has only {ratio} times as many different samples as real data (Vendi)"
        yield from _if_fell(fell, "vendi", text)


def _fell(figure: Interval, base: Interval, change: Interval) -> bool | None:
    """Return whether a figure fell below the base's beyond its uncertainty; None if unknown.

    An unknown base excuses nothing.
    """
    if math.isnan(base.value):
        return True
    if math.isfinite(change.value):
        return change.high < 0 if change.has_ends else None
    return figure.high < base.value if figure.has_ends else None


def _if_fell(fell: bool | None, alarm: str, text: str) -> Iterator[Sign]:
    if fell:
        yield Sign("variety", alarm, text)
    elif fell is None:
        yield Sign("missing", alarm, f"{text}, and whether the base's are more so {_TOO_FEW}")


def _distance(run: RunResult, base: RunResult, factor: float, gained: bool) -> Iterator[Sign]:
    what = "the Fréchet distance to real data"
    if not (math.isfinite(run.frechet.value) and math.isfinite(base.frechet.value)):
        yield Sign("missing", "frechet", f"{what} could not be measured")
    elif gained and run.frechet.value > factor * base.frechet.value:
        before, after = pair(base.frechet.value, run.frechet.value)
        yield Sign("distance", "frechet", f"{what} grew from {before} to {after}")


def _pixels(run: RunResult, mark: float) -> Iterator[Sign]:
    """Yield the statistic that moved farthest, if its whole interval is past the mark."""
    moved = [shift for shift in run.pixels if shift.moved.low > mark]
    if not moved:
        for shift in run.pixels:
            if shift.moved.value > mark and not shift.moved.has_ends:
                text = f"whether the {shift.name.replace('_', ' ')} moved past its mark {_TOO_FEW}"
                yield Sign("missing", shift.name, text)
        return
    shift = max(moved, key=lambda one: one.moved.value)
    name = shift.name.replace("_", " ")
    side = "above" if shift.difference.value > 0 else "below"
    others = {1: "", 2: ", and another statistic of pixels moved"}.get(
        len(moved), f", and {len(moved) - 1} more statistics of pixels moved"
    )
    size = number(abs(shift.difference.value), 1)
    before = number(abs(shift.difference.value) - shift.moved.value, 1)
    yield Sign(
        "pixels",
        shift.name,
        f"the {name} is {size} standard deviations {side} real data (base: {before} off){others}",
    )


def _measures(run: RunResult, fall: float) -> Iterator[Sign]:
    """Judges and held-out rewards that fell, beyond their uncertainty, while the reward rose."""
    for one in run.measures:
        if not one.change.value < -fall * one.scale:
            continue
        is_accuracy = one.name == "judge_accuracy"
        what = "the judge's accuracy" if is_accuracy else f"the {one.kind} {one.name}"
        if not one.change.has_ends:
            yield Sign("missing", one.name, f"whether {what} fell {_TOO_FEW}")
        elif one.change.high < 0:
            before, after = pair(one.value.value - one.change.value, one.value.value)
            yield Sign("measures", one.name, f"{what} fell from {before} to {after}")


def _motion(run: RunResult, base: RunResult, marks: Marks, gained: bool) -> Iterator[Sign]:
    """Clips that stand still or flicker, beyond what the base does."""
    motion, before = run.temporal_change, base.temporal_change
    limit = math.log(marks.motion_factor)
    text = f"its clips change {number(motion.value)} times as much as real ones"
    is_known = math.isfinite(motion.value) and math.isfinite(before.value)
    if is_known and off(motion.value) > max(limit, off(before.value)):
        moved = run.motion_moved
        if not (motion.has_ends and (moved.has_ends or math.isnan(moved.value))):
            yield Sign("missing", "temporal_change", f"{text}, and whether by chance {_TOO_FEW}")
        elif motion.low > 1 or motion.high < 1:
            near = min(off(motion.low), off(motion.high))
            farther = near > off(before.value) if math.isnan(moved.value) else moved.low > 0
            if near > limit and farther:
                yield Sign("motion", "temporal_change", text)
    distance, start = run.temporal_frechet.value, base.temporal_frechet.value
    if gained and distance > marks.frechet_factor * start:
        first, last = pair(start, distance)
        text = f"the temporal Fréchet distance grew from {first} to {last}"
        yield Sign("motion", "temporal_frechet", text)


def off(ratio: float) -> float:
    """Return how far a ratio is from 1, in logarithms; infinite for clips that stand still."""
    return abs(math.log(ratio)) if ratio > 0 else math.inf
