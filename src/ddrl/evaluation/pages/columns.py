"""Columns of the report's tables: a head, what it means, and each run's text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ddrl.evaluation.findings.wording import column_decimals, number
from ddrl.evaluation.measures.result import RunResult
from ddrl.evaluation.measures.statistics import Interval

NO_INTERVAL = "no interval"


@dataclass(frozen=True)
class Column:
    """One column of a table: its head and each run's text by place.

    Attributes:
        key: name of the figure, as alarms call it.
        head: of the column.
        meaning: a sentence or two for readers who ask.
        values: of the runs.
        ranges: their intervals; empty where there is none to show.
        short: what a value is compared with, in a few words.
    """

    key: str
    head: str
    meaning: str
    values: tuple[str, ...]
    ranges: tuple[str, ...]
    short: str = ""


def make_column(
    key: str,
    head: str,
    meaning: str,
    figures: Sequence[Interval],
    show: Callable[[float, int], str] = number,
    *,
    short: str = "",
) -> Column:
    """Return a column of figures, with as many decimals as its smallest entry needs.

    Args:
        key: name of the figure, as alarms call it.
        head: of the column.
        meaning: one sentence for readers.
        figures: of the runs, in the order of the page.
        show: a value and the column's decimals to text.
        short: what a value is compared with, in a few words.
    """
    decimals = column_decimals([figure.value for figure in figures])
    return Column(
        key,
        head,
        meaning,
        tuple(show(figure.value, decimals) for figure in figures),
        tuple(_range(figure, lambda value: show(value, decimals)) for figure in figures),
        short,
    )


def _range(figure: Interval, show: Callable[[float], str]) -> str:
    """Return an interval as text; empty where it has no width, or there is no figure either."""
    if not math.isfinite(figure.value) or figure.low == figure.high:
        return ""
    return f"{show(figure.low)} to {show(figure.high)}" if figure.has_ends else NO_INTERVAL


def further_columns(runs: Sequence[RunResult]) -> tuple[Column, ...]:
    """Judges but the first, held-out rewards, and how clips move.

    Columns that no run has a figure for are left out, unless it is known why: a held-out reward
    that failed is shown as missing, with the cause.
    """
    names = dict.fromkeys(one.name for run in runs for one in run.measures)
    kinds = {one.name: one.kind for run in runs for one in run.measures}
    causes = {name: _causes(name, runs) for name in names}
    columns = []
    for name in names:
        if name == "judge_accuracy":
            continue
        column = make_column(
            name,
            name.replace("_", " "),
            f"A {kinds[name]}, which training never saw. Higher is better.{causes[name]}",
            [run.measure(name) for run in runs],
            short="higher is better",
        )
        columns.append(column)
    columns += [
        make_column(
            "temporal_frechet",
            "Temporal Fréchet distance",
            "How far clips and their changes over time are from real ones. Lower is better.",
            [run.temporal_frechet for run in runs],
            short="lower is better",
        ),
        make_column(
            "temporal_change",
            "Change between frames",
            "Real clips are 1, a still picture is 0, flicker is above 1.",
            [run.temporal_change for run in runs],
            short="real clips: 1",
        ),
        make_column(
            "temporal_consistency",
            "Consistency",
            "Likeness of neighbouring frames. Real clips are 1.",
            [run.temporal_consistency for run in runs],
            short="real clips: 1",
        ),
    ]
    nothing = number(float("nan"))
    return tuple(
        column for column in columns if causes.get(column.key) or set(column.values) != {nothing}
    )


def _causes(name: str, runs: Sequence[RunResult]) -> str:
    """Return why samples of some runs have no value, as sentences after another one."""
    found = ((run, one) for run in runs for one in run.measures if one.name == name and one.cause)
    return "".join(
        f" {run.label}: {_extent(one.value.value)}, since {one.cause}." for run, one in found
    )


def _extent(value: float) -> str:
    return "some samples are missing" if math.isfinite(value) else "missing"
