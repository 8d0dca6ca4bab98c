"""Parts of the report's page: pixels and losses on a scale, prompts that got worse."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ddrl.evaluation.findings.audit import Report
from ddrl.evaluation.findings.signs import PIXEL_MARK
from ddrl.evaluation.findings.wording import number, pair, percent
from ddrl.evaluation.measures.result import Regression, RunResult
from ddrl.evaluation.pages.charts import squash
from ddrl.evaluation.pages.grids import page_side
from ddrl.evaluation.pages.tiles import picture

_SEEDS = 6  # pictures of a prompt beside each other, before and after
_SHOWN = 3  # prompts of a run


@dataclass(frozen=True)
class Dot:
    """A run on the scale of a statistic.

    Attributes:
        place: of the run on the page, which fixes its colour and shape.
        left: in percent of the scale's width.
        start: where the way from the base begins, in percent of that width.
        width: of that way, in percent of that width; 0 for the base.
        value: its difference to data.
        text: the run's label and that difference.
        alarm: whether it moved past the mark.
    """

    place: int
    left: float
    start: float
    width: float
    value: str
    text: str
    alarm: bool


@dataclass(frozen=True)
class PixelRow:
    """One statistic: its name, the band of one standard deviation around data, and the runs."""

    name: str
    zero: float
    low: float
    high: float
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Before:
    """A prompt before and after training.

    Attributes:
        prompt: its text.
        words: what changed.
        worse: whether it got worse.
        base: data URIs of the base's pictures.
        run: those of the run, from the same noise.
    """

    prompt: str
    words: str
    worse: bool
    base: tuple[str, ...]
    run: tuple[str, ...]


@dataclass(frozen=True)
class WorseRun:
    """A run and the prompts that lost most in it."""

    label: str
    status: str
    prompts: tuple[Before, ...]


def pixel_rows(report: Report) -> tuple[PixelRow, ...]:
    """Each statistic with every run's difference to real data, on one scale.

    It is asinh, so that a difference of 0.2 and one of 20 standard deviations can both be read.
    Statistics in which no model differs from data are left out, such as the saturation of grey
    pictures.
    """
    names = list(dict.fromkeys(shift.name for run in report.runs for shift in run.pixels))
    found = {
        (place, shift.name): shift
        for place, run in enumerate(report.runs)
        for shift in run.pixels
        if math.isfinite(shift.difference.value)
    }
    places = [math.asinh(shift.difference.value) for shift in found.values()]
    bottom, top = min([-1.6, *places]) - 0.15, max([1.6, *places]) + 0.15

    def left(difference: float) -> float:
        return round(100 * (math.asinh(difference) - bottom) / (top - bottom), 2)

    rows = []
    for name in names:
        shifts = [
            (place, found[place, name])
            for place, _ in enumerate(report.runs)
            if (place, name) in found
        ]
        if all(abs(shift.difference.value) < 1e-3 for _, shift in shifts):
            continue
        before = next((one for place, one in shifts if report.runs[place].is_base), None)
        dots = []
        for place, shift in shifts:
            at, value = left(shift.difference.value), number(shift.difference.value)
            start = at if before is None else left(before.difference.value)
            dots.append(
                Dot(
                    place,
                    at,
                    min(at, start),
                    round(abs(at - start), 2),
                    value,
                    f"{report.runs[place].label}: {value}",
                    shift.moved.low > PIXEL_MARK,
                )
            )
        rows.append(PixelRow(name.replace("_", " "), left(0.0), left(-1.0), left(1.0), tuple(dots)))
    return tuple(rows)


def worse_runs(report: Report, statuses: dict[str, str]) -> tuple[WorseRun, ...]:
    """Return each run's prompts that lost most, with base and run from the same noise."""
    base = report.samples.get(report.base.name)
    if base is None:
        return ()
    found, side = [], page_side(report)
    for run in report.runs:
        mine = report.samples.get(run.name)
        if mine is None or not run.regressions:
            continue
        seeds = min(_SEEDS, base.shape[1])
        prompts = tuple(
            Before(
                report.prompts[one.prompt_id],
                _words(one),
                one.change < 0,
                tuple(picture(tile, side=side) for tile in base[one.prompt_id, :seeds]),
                tuple(picture(tile, side=side) for tile in mine[one.prompt_id, :seeds]),
            )
            for one in run.regressions[:_SHOWN]
        )
        found.append(WorseRun(run.label, statuses[run.name], prompts))
    return tuple(found)


def _words(one: Regression) -> str:
    figures = {name: (before, after) for name, before, after in one.measures}
    figures["reward"] = one.reward
    names = [one.worst, *(name for name in figures if name != one.worst)]
    parts = []
    for name in names:
        before, after = figures[name]
        if name == "judge_accuracy":
            parts.append(f"judge {percent(before)} → {percent(after)}")
        else:
            texts = pair(before, after)
            parts.append(f"{name.replace('_', ' ')} {texts[0]} → {texts[1]}")
    return ", ".join(parts)


@dataclass(frozen=True)
class Bar:
    """A held-out loss change on the table's scale; all places in percent of its width."""

    zero: float
    mark: float
    start: float
    width: float
    over: bool


def loss_bars(report: Report) -> tuple[Bar | None, ...]:
    """Each run's bar; None where the change is not finite."""
    limit = report.drift_limit
    known = [run.drift.value for run in report.runs if math.isfinite(run.drift.value)] or [0.0]
    bottom = min(-0.4, *(squash(change, limit) - 0.05 for change in known))
    top = max(2.0, *(squash(change, limit) + 0.05 for change in known))

    def place(change: float) -> float:
        return round(100.0 * (squash(change, limit) - bottom) / (top - bottom), 2)

    def bar(run: RunResult) -> Bar | None:
        drift = run.drift
        if not math.isfinite(drift.value):
            return None
        start, end = sorted((place(0.0), place(drift.value)))
        return Bar(
            zero=place(0.0),
            mark=place(limit),
            start=start,
            width=round(end - start, 2),
            over=drift.value > limit,
        )

    return tuple(bar(run) for run in report.runs)
