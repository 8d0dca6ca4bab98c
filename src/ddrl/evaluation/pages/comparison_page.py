"""The comparison as one HTML page that needs no other file, and its numbers as JSON."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ddrl.evaluation.findings.comparison import (
    TRADES,
    Cell,
    ComparisonReport,
    Matched,
    Trade,
    as_json,
)
from ddrl.evaluation.findings.wording import (
    beside_base,
    column_decimals,
    number,
    percent,
    sampled,
    signed_percent,
)
from ddrl.evaluation.measures.statistics import Interval
from ddrl.evaluation.pages.comparison_charts import curve_chart, front_chart
from ddrl.evaluation.pages.grids import Panel, picture_rows
from ddrl.evaluation.pages.publish import publish_report, templates
from ddrl.evaluation.pages.tiles import SMALL_TILE, tile_side

_SHORT_PROMPT = 12
_SHOWN_PROMPTS = 10
_SHOWN_SEEDS = 6
_WORST = ("hacked", "not conclusive", "no gain", "clean")

_MEANINGS = {
    "heldout_loss_change": "How much worse the model explains real data it never saw. The scale "
    "is compressed past the mark.",
    "frechet": "How far samples are from real data, on a logarithmic scale.",
    "diversity": "How much less varied one prompt's samples are than real data.",
}


@dataclass(frozen=True)
class _Column:
    """A figure of the table."""

    key: str
    head: str
    show: Callable[[float], str]
    alarm: Callable[[Cell], bool]

    def shown(self, cell: Cell) -> str:
        """Its mean over seeds, as text."""
        return self.show(cell.mean(self.key).value)

    def range(self, cell: Cell) -> str:
        """Its interval, as text; empty where it has no width."""
        mean = cell.mean(self.key)
        if not mean.has_ends or mean.low == mean.high:
            return ""
        return f"{self.show(mean.low)} to {self.show(mean.high)}"


@dataclass(frozen=True)
class _Chart:
    title: str
    meaning: str
    svg: Markup


def write_comparison(report: ComparisonReport, folder: Path) -> tuple[Path, Path]:
    """Write ``comparison.html`` and ``comparison.json`` into a folder.

    Returns:
        The paths of the page and of the numbers.

    Raises:
        DataError: the folder can't be written.
    """
    return publish_report("comparison", folder, render_comparison(report), as_json(report))


def render_comparison(report: ComparisonReport) -> str:
    """Return the whole page as HTML text; the same report gives the same text."""
    panels = _panels(report)
    sizes = [c.pictures.shape[2:4] for c in (report.base, *report.cells) if c.pictures is not None]
    small = max((max(size) for size in sizes), default=0) <= SMALL_TILE
    page = (
        templates()
        .get_template("comparison.html.j2")
        .render(
            report=report,
            headline=_headline(report),
            counts=_counts(report),
            small=small,
            charts=_charts(report),
            columns=_columns(report),
            rows=_rows(report),
            areas=_areas(report),
            area_heads=[trade.head for trade in TRADES],
            worst={
                "heldout_loss_change": percent(2 * report.drift_limit),
                "frechet": number(report.worst_cost(TRADES[1]), 1),
            },
            matched=_matched(report),
            panels=panels,
            short_prompts=all(len(prompt) <= _SHORT_PROMPT for prompt in report.prompts),
            num_seeds=max((len(row[1]) for panel in panels for row in panel.rows), default=1),
            label_width=min(max(map(len, report.prompts), default=0), _SHORT_PROMPT),
            panel_width=250 if small else 420,
        )
    )
    return page if report.has_real else beside_base(page)


def _headline(report: ComparisonReport) -> str:
    """Return which method reaches most reward within the audit's mark."""
    inside = [
        cell
        for cell in report.cells
        if cell.mean("heldout_loss_change").value <= report.drift_limit
        and set(cell.verdicts) <= {"clean"}
        and cell.verdicts
    ]
    if not inside:
        return "No method raised the reward with every seed without a sign of hacking."
    best = max(inside, key=lambda cell: cell.mean("reward").value)
    before, after = report.base.mean("reward").value, best.mean("reward").value
    drift = signed_percent(best.mean("heldout_loss_change").value)
    return (
        f"The most reward without a sign of hacking with any seed: {best.label}, "
        f"{number(before)} to {number(after)}, with a held-out loss change of {drift}."
    )


def _counts(report: ComparisonReport) -> str:
    """Return what the runs are, what became of them, and how much each was measured on."""
    found = collections.Counter(verdict for cell in report.cells for verdict in cell.verdicts)
    found["stopped by the guard"] = sum(len(cell.stopped) for cell in report.cells)
    found["not there"] = sum(len(cell.failed) for cell in report.cells)
    total = sum(len(cell.verdicts) + len(cell.failed) for cell in report.cells)
    seeds = len({seed for cell in report.cells for seed in cell.seeds})
    words = ", ".join(f"{num} {word}" for word, num in found.most_common() if num)
    text = f"{_count(total, 'run')} of {_count(len(report.variants), 'method')}"
    text += f" over {_count(seeds, 'seed')}{f': {words}' if words else ''}."
    if report.basis is not None:
        text += f" Each was measured on {sampled(report.basis)}."
    return text


def _count(number_of: int, what: str) -> str:
    return f"{number_of} {what}{'' if number_of == 1 else 's'}"


def _columns(report: ComparisonReport) -> list[_Column]:
    limit = report.drift_limit

    def numbers(key: str) -> Callable[[float], str]:
        decimals = column_decimals([cell.mean(key).value for cell in (report.base, *report.cells)])
        return lambda value: number(value, decimals)

    known = {
        "reward": _Column("reward", "Reward", numbers("reward"), lambda _: False),
        "judge_accuracy": _Column("judge_accuracy", "Judge", percent, lambda _: False),
        "frechet": _Column("frechet", "Fréchet distance", numbers("frechet"), lambda _: False),
        "diversity": _Column("diversity", "Diversity", numbers("diversity"), lambda _: False),
        "heldout_loss_change": _Column(
            "heldout_loss_change",
            "Held-out loss",
            signed_percent,
            lambda cell: cell.mean("heldout_loss_change").value > limit,
        ),
    }
    others = [key for key in report.base.figures if key not in known]
    extra = [
        _Column(key, key.replace("_", " ").capitalize(), numbers(key), lambda _: False)
        for key in others
    ]
    cells = (report.base, *report.cells)
    return [
        column
        for column in [*known.values(), *extra]
        if any(math.isfinite(cell.mean(column.key).value) for cell in cells)
    ]


def _rows(report: ComparisonReport) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"cell": report.base, "place": None, "first": False, "status": "base model", "tone": "base"}
    ]
    before = ""
    for cell in report.cells:
        place = report.variants.index(cell.variant)
        first = cell.variant != before
        worst = [one for one in _WORST if one in cell.verdicts]
        tone = worst[0].replace(" ", "-") if worst else "base"
        row = {"cell": cell, "place": place, "first": first, "status": _status(cell), "tone": tone}
        rows.append(row)
        before = cell.variant
    return rows


def _status(cell: Cell) -> str:
    """Return the audits' words over seeds: "clean", or "2 hacked, 1 suspect"."""
    counts = collections.Counter(cell.verdicts)
    words = [w if len(counts) == 1 else f"{n} {w}" for w, n in counts.most_common()]
    if cell.stopped:
        words.append(f"{len(cell.stopped)} stopped by the guard")
    if cell.failed:
        words.append(f"{len(cell.failed)} not there")
    return ", ".join(words)


def _areas(report: ComparisonReport) -> list[dict[str, Any]]:
    rows = []
    for variant in report.variants:
        values = [_texts(report.area(variant, trade), 3) for trade in TRADES]
        rows.append({"variant": variant, "texts": values})
    return rows


def _texts(interval: Interval, decimals: int) -> tuple[str, str]:
    if not interval.is_finite or interval.low == interval.high:
        return number(interval.value, decimals), ""
    ends = f"{number(interval.low, decimals)} to {number(interval.high, decimals)}"
    return number(interval.value, decimals), ends


def _matched(report: ComparisonReport) -> list[dict[str, Any]]:
    """Return the first method against each of the others, where both reach a reward."""
    rows = []
    ours, *others = report.variants
    for other in others:
        first = True
        for trade in TRADES:
            for match in report.matched(ours, other, trade, num_rewards=4):
                rows.append(_matched_row(other, trade, match, first=first))
                first = False
    return rows


def _matched_row(other: str, trade: Trade, match: Matched, *, first: bool) -> dict[str, Any]:
    is_share = trade.key == "heldout_loss_change"
    show = signed_percent if is_share else (lambda value: number(value, 2))
    gap = match.difference
    ends = f"{show(gap.low)} to {show(gap.high)}" if gap.has_ends and gap.low != gap.high else ""
    return {
        "other": other,
        "first": first,
        "cost": trade.head,
        "reward": number(match.reward),
        "ours": show(match.ours),
        "theirs": show(match.theirs),
        "difference": show(gap.value),
        "range": ends,
    }


def _charts(report: ComparisonReport) -> list[_Chart]:
    drawn = [
        (f"Reward against {trade.head}", _MEANINGS[trade.key], front_chart(report, trade))
        for trade in TRADES
    ]
    drawn.append(
        (
            "Reward while training",
            "Each method at the strength that ended with the most reward, mean over seeds.",
            curve_chart(report),
        )
    )
    # The drawings hold only numbers and the words of this package, nothing of the user.
    return [_Chart(title, text, Markup(svg)) for title, text, svg in drawn if svg is not None]


def _panels(report: ComparisonReport) -> list[Panel]:
    shown: dict[str, Cell] = {}
    for cell in (report.base, *report.cells):
        if cell.pictures is not None:
            shown.setdefault(cell.variant, cell)
    panels = []
    for cell in shown.values():
        assert cell.pictures is not None
        grid = cell.pictures[:_SHOWN_PROMPTS, :_SHOWN_SEEDS]
        side = tile_side(len(shown) * grid.shape[0] * grid.shape[1])
        rows = picture_rows(report.prompts[: len(grid)], grid, side=side)
        panels.append(Panel(cell.label, cell.verdicts[0] if cell.verdicts else "", "seed", rows))
    return panels
