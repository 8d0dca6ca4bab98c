"""The report as one HTML page that needs no other file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ddrl.evaluation.findings.audit import Report, as_json
from ddrl.evaluation.findings.deciding import Decider, deciding
from ddrl.evaluation.findings.signs import Marks
from ddrl.evaluation.findings.verdict import Verdict
from ddrl.evaluation.findings.wording import (
    beside_base,
    drawn,
    number,
    percent,
    sampled,
    signed_percent,
)
from ddrl.evaluation.measures.result import RunResult
from ddrl.evaluation.pages.charts import drift_chart, reward_chart, trade_chart
from ddrl.evaluation.pages.columns import Column, further_columns, make_column
from ddrl.evaluation.pages.grids import panels
from ddrl.evaluation.pages.page_parts import loss_bars, pixel_rows, worse_runs
from ddrl.evaluation.pages.palette import MARKERS
from ddrl.evaluation.pages.publish import publish_report, templates
from ddrl.evaluation.pages.tiles import SMALL_TILE

_SHORT_PROMPT = 12

_WHY = {
    "clean": "In words",
    "no gain": "In words",
    "hacked": "Every sign",
    "not conclusive": "Every sign",
}


@dataclass(frozen=True)
class _Card:
    """A run's verdict, and what decided it.

    Attributes:
        run: the run.
        status: of its verdict.
        deciders: one or two figures.
        more: what the whole sentence holds, in a few words.
        opening: the sentence up to its colon.
        sentence: the rest.
    """

    run: RunResult
    status: str
    deciders: tuple[Decider, ...]
    more: str
    opening: str
    sentence: str


@dataclass(frozen=True)
class _Chart:
    """One chart with its words."""

    title: str
    meaning: str
    alt: str
    svg: Markup


def write_report(report: Report, folder: Path | str) -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.json`` into a folder, which is made if it is missing.

    Args:
        report: what was measured.
        folder: where to write.

    Returns:
        The paths of the page and of the numbers.

    Raises:
        DataError: the folder can't be made or written, or the disk is full.
    """
    return publish_report("report", folder, render_page(report), as_json(report), indent=2)


def render_page(report: Report) -> str:
    """Return the whole page as HTML text: styles, charts and pictures are inside.

    Args:
        report: what was measured.

    Returns:
        HTML; the same report gives the same text.
    """
    verdicts = report.verdicts()
    basis, over = _basis(report)
    label_width = min(max(map(len, report.prompts), default=0), _SHORT_PROMPT)
    grids = list(report.samples.values())
    small = max((max(grid.shape[2:4]) for grid in grids), default=0) <= SMALL_TILE
    page = (
        templates()
        .get_template("report.html.j2")
        .render(
            report=report,
            verdicts=verdicts,
            headline=headline(report),
            cards=_cards(report, verdicts),
            columns=_columns(report),
            drift=_drift_column(report),
            further=further_columns(report.runs),
            pixel_rows=pixel_rows(report),
            worse_runs=worse_runs(report, {name: one.status for name, one in verdicts.items()}),
            marks=Marks(drift_limit=report.drift_limit),
            bars=loss_bars(report),
            panels=panels(report, verdicts),
            short_prompts=all(len(prompt) <= _SHORT_PROMPT for prompt in report.prompts),
            small=small,
            num_seeds=max((grid.shape[1] for grid in grids), default=1),
            label_width=label_width,
            panel_width=250 if small else 420,
            basis=basis,
            over=over,
            num_colours=len(MARKERS),
            charts=_charts(report),
        )
    )
    return page if report.has_real else beside_base(page)


def headline(report: Report) -> str:
    """Return the page in one line: what became of each run."""
    verdicts = report.verdicts()
    runs = [run for run in report.runs if not run.is_base]
    if not runs:
        return "No post-trained run is in this report: it shows the base alone."
    return " ".join(f"{run.label}: {verdicts[run.name].sentence.split(':', 1)[0]}." for run in runs)


def _cards(report: Report, verdicts: dict[str, Verdict]) -> tuple[_Card, ...]:
    """Return what became of each run that was trained; the base has no verdict."""
    marks = Marks(drift_limit=report.drift_limit)
    cards = []
    for run in report.runs:
        verdict = verdicts[run.name]
        if verdict.status == "base":
            continue
        opening, _, sentence = verdict.sentence.partition(": ")
        more, num = _WHY[verdict.status], len(verdict.reasons)
        if num:
            more = f"{more} ({num})"
        figures = deciding(run, report.base, verdict, marks=marks)
        cards.append(_Card(run, verdict.status, figures, more, opening, sentence))
    return tuple(cards)


def _basis(report: Report) -> tuple[str, str]:
    """Return how much was measured, and what the table's intervals are over, as sentences."""
    basis, drift = report.basis, report.runs[-1].drift.basis
    if basis is None:
        return "", ""
    text, over = f"Each model made {sampled(basis)}.", f"They are over {drawn(basis)}."
    if drift is not None:
        text += f" The held-out loss is of {sampled(drift, 'held-out sample')}."
        if drawn(drift) != drawn(basis):
            over += f" Those of the held-out loss are over {drawn(drift)}."
    return text, over


def _columns(report: Report) -> tuple[Column, ...]:
    """Return the columns left of the bar, each with one sentence of what it means."""
    floor = ""
    if report.real_frechet is not None:
        floor = f" Two sets of real data differ by {number(report.real_frechet, 1)}."
    runs, wanted = report.runs, report.base.real_vendi
    real = number(wanted, 1) if math.isfinite(wanted) else ""
    known = f", which has {real} at as many samples: 0.5 is half as many" if real else ""
    return (
        make_column(
            "reward",
            "Reward",
            "What training raised. Higher is better, and hacking raises it too.",
            [run.reward for run in runs],
            short="trained on",
        ),
        make_column(
            "judge_accuracy",
            "Held-out judge",
            "Samples that an independent judge accepts. It is often fooled as well.",
            [run.judge_accuracy for run in runs],
            show=lambda value, _: percent(value),
            short="accepted",
        ),
        make_column(
            "frechet",
            "Fréchet distance",
            f"How far samples are from real data. Lower is better, a jump is a warning.{floor}",
            [run.frechet for run in runs],
            short="lower is better"
            if report.real_frechet is None
            else f"two real sets: {number(report.real_frechet, 1)}",
        ),
        make_column(
            "diversity",
            "Diversity",
            "Variety of one prompt's samples. Real data is 1, repetition of one picture is 0.",
            [run.diversity for run in runs],
            short="real data: 1",
        ),
        make_column(
            "vendi",
            "Vendi score",
            "Effective number of different samples of one prompt, as a share of real data's"
            f"{known}.",
            [run.vendi for run in runs],
            short=f"real data: 1{f' = {real} samples' if real else ''}",
        ),
    )


def _drift_column(report: Report) -> Column:
    """Return the last column, which has a bar in it."""
    return make_column(
        "heldout_loss_change",
        "Held-out loss change",
        "How much worse the model explains real data it never saw. Left of the mark is fine, past "
        f"the {percent(report.drift_limit)} mark it is hacked.",
        [run.drift for run in report.runs],
        show=lambda value, _: signed_percent(value),
        short=f"mark: +{percent(report.drift_limit)}",
    )


def _charts(report: Report) -> tuple[_Chart, ...]:
    mark = percent(report.drift_limit)
    drifts = ", ".join(
        f"{run.label} {signed_percent(run.drift.value)}" for run in report.runs if not run.is_base
    )
    rewards = ", ".join(f"{run.label} {number(run.reward.value)}" for run in report.runs)
    drawn = (
        (
            "Reward while training",
            "The mean reward of each step, smoothed. Hacking makes it rise too, and often "
            "higher, so this curve alone proves nothing.",
            f"Line chart of the training reward. At the end: {rewards}.",
            reward_chart(report.runs),
        ),
        (
            "Held-out loss while training",
            "How much worse the model explains real data. A run above the dashed "
            f"{mark} line has left the data. The scale is compressed above it.",
            f"Line chart of the held-out loss change. At the end: {drifts}.",
            drift_chart(report.runs, report.drift_limit),
        ),
        (
            "What the reward cost",
            "Good runs climb straight up from the base. Drifting right into the shaded area "
            "means paying for reward with realism.",
            f"Scatter chart of reward against held-out loss change: {rewards}; {drifts}.",
            trade_chart(report.runs, report.drift_limit),
        ),
    )
    return tuple(
        # The drawing holds only numbers and the words of charts.py, nothing of the user.
        _Chart(title, meaning, alt, Markup(svg))
        for title, meaning, alt, svg in drawn
        if svg is not None
    )
