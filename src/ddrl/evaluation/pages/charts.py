"""The report's curves as SVG text: the same input gives the same bytes.

Colours are CSS variables of the page, so that the charts follow its light or dark theme; no text
of the user is drawn, runs are named by the page's legend. Changes of the held-out loss are
drawn on one scale everywhere: `squash`, linear below the mark and logarithmic far above it, so that
a run within the mark and one a hundred times past it can both be read.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ddrl.evaluation.findings.wording import signed_percent
from ddrl.evaluation.measures.result import RunResult
from ddrl.evaluation.pages.palette import (
    ALARM,
    GRID,
    MARKERS,
    MUTED,
    PAPER,
    run_colour,
    with_variables,
)

STYLE: dict[Any, Any] = {  # also of the figures of docs/
    "svg.hashsalt": "ddrl",
    "svg.fonttype": "none",
    "font.size": 12.0,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.xmargin": 0.03,
    "grid.linewidth": 0.8,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.major.pad": 6.0,
    "ytick.major.pad": 6.0,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
}
_TICKS = (-0.9, -0.5, -0.2, -0.1, 0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)


def squash(change: float, limit: float) -> float:
    """Place of a held-out loss change on the report's scale: asinh(change / limit).

    Args:
        change: change of the loss as a fraction.
        limit: the mark as a fraction; changes well below it are placed linearly.

    Returns:
        A place without unit: 0 for no change, asinh(1) = 0.88 at the mark.
    """
    return math.asinh(change / limit)


def reward_chart(runs: Sequence[RunResult]) -> str | None:
    """The mean training reward of each run against the training step.

    Args:
        runs: in the order of the page, which fixes colours and markers.

    Returns:
        SVG text to put inline, or None where no run has a curve.
    """
    figure, axes = empty_chart("training step", "reward while training")
    drawn = 0
    for place, run in enumerate(runs):
        steps = np.array(run.curves.steps, dtype=np.float64)
        rewards = _finite(run.curves.rewards)
        if len(steps) == 0 or np.isnan(rewards).all():
            continue
        drawn += 1
        colour = run_colour(place)
        window = max(len(steps) // 15, 1)
        if window > 1:
            axes.plot(steps, rewards, color=colour, linewidth=0.8, alpha=0.4)
        axes.plot(steps, running_mean(rewards, window), color=colour, linewidth=2.2)
    return as_svg(figure, "reward") if drawn else None


def drift_chart(runs: Sequence[RunResult], limit: float) -> str | None:
    """The held-out loss change of each run against the training step, with the mark.

    Args:
        runs: in the order of the page, which fixes colours and markers.
        limit: the mark as a fraction.

    Returns:
        SVG text to put inline, or None where no run was evaluated while it trained.
    """
    figure, axes = empty_chart("training step", "held-out loss change")
    seen = [0.0, limit]
    for place, run in enumerate(runs):
        steps = np.array([step for step, _ in run.curves.evaluations], dtype=np.float64)
        drifts = _finite([drift for _, drift in run.curves.evaluations])
        if len(steps) < 2 or np.isnan(drifts).all():  # the first one is the start, always 0
            continue
        seen += [float(drift) for drift in drifts if not np.isnan(drift)]
        axes.plot(
            steps,
            np.arcsinh(drifts / limit),
            color=run_colour(place),
            linewidth=2.2,
            marker=MARKERS[place % len(MARKERS)],
            markersize=7,
            markeredgewidth=1.0,
            markeredgecolor=PAPER,
        )
    if len(seen) == 2:
        return None
    top, bottom = max(seen), min(seen)
    axes.set_ylim(squash(min(bottom, 0.0), limit) - 0.35, squash(top, limit) + 0.35)
    ticks = _ticks(bottom, top, limit, 0.1)
    axes.set_yticks([squash(tick, limit) for tick in ticks], [_tick_text(tick) for tick in ticks])
    axes.axhspan(squash(limit, limit), 1e3, color=ALARM, alpha=0.07, linewidth=0)
    axes.axhline(squash(limit, limit), color=ALARM, linewidth=1.4, dashes=(5, 3))
    return as_svg(figure, "drift")


def trade_chart(runs: Sequence[RunResult], limit: float) -> str | None:
    """The reward of each run against its held-out loss change: what the reward was paid with.

    Args:
        runs: in the order of the page, base first; intervals are bars, where there are any.
        limit: the mark as a fraction.

    Returns:
        SVG text to put inline, or None where fewer than two runs have finite figures.
    """
    known = [
        (place, run)
        for place, run in enumerate(runs)
        if math.isfinite(run.reward.value) and math.isfinite(run.drift.value)
    ]
    if len(known) < 2:
        return None
    figure, axes = empty_chart("held-out loss change", "reward")
    axes.grid(visible=False)
    base = next((run for _, run in known if run.is_base), None)
    for place, run in known:
        x, y = squash(run.drift.value, limit), run.reward.value
        if base is not None and not run.is_base:
            start = squash(base.drift.value, limit), base.reward.value
            axes.plot([start[0], x], [start[1], y], color=run_colour(place), linewidth=1, alpha=0.5)
        ends = [squash(end, limit) for end in (run.drift.low, run.drift.high)]
        axes.plot(ends, [y, y], color=run_colour(place), linewidth=1.6)
        rewards = [run.reward.low, run.reward.high]
        axes.plot([x, x], rewards, color=run_colour(place), linewidth=1.6)
        axes.plot(
            [x],
            [y],
            color=run_colour(place),
            marker=MARKERS[place % len(MARKERS)],
            markersize=11,
            markeredgewidth=1.0,
            markeredgecolor=PAPER,
        )
    drifts = [run.drift for _, run in known]
    lows = [one.low if one.has_ends else one.value for one in drifts]
    highs = [one.high if one.has_ends else one.value for one in drifts]
    axes.set_xlim(squash(min(*lows, 0.0), limit) - 0.5, squash(max(*highs, limit), limit) + 0.5)
    axes.margins(y=0.12)
    ticks = _ticks(min(*lows, 0.0), max(*highs, limit), limit, 0.2)
    axes.set_xticks([squash(tick, limit) for tick in ticks], [_tick_text(tick) for tick in ticks])
    axes.axvspan(squash(limit, limit), 1e3, color=ALARM, alpha=0.07, linewidth=0)
    axes.axvline(squash(limit, limit), color=ALARM, linewidth=1.4, dashes=(5, 3))
    return as_svg(figure, "trade")


def empty_chart(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """An empty chart of 330 x 250 points with its y label above the axis, to be read level."""
    with rc_context(STYLE):
        figure = Figure(figsize=(330 / 72, 250 / 72), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xlabel(x_label, color=MUTED, labelpad=6)
        axes.set_title(y_label, loc="left", color=MUTED, fontsize=12, pad=10)
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.grid(axis="y", color=GRID)
    axes.tick_params(colors=MUTED)
    axes.spines["bottom"].set_color(GRID)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    return figure, axes


def as_svg(figure: Figure, name: str) -> str:
    """The chart as SVG for use inside HTML: no header, no links, ids with the chart's name."""
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1">', text, count=1)
    text = text.replace('<style type="text/css">*{', f'<style type="text/css">.chart-{name} *{{')
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = text.replace('xlink:href="#', f'href="#{name}-')
    text = with_variables(text)
    return text.replace("<svg ", f'<svg class="chart-{name}" aria-hidden="true" ', 1).strip()


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    array[~np.isfinite(array)] = np.nan
    return array


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The centred mean of the known values in a window, which is cut off at the ends."""
    known = ~np.isnan(values)
    reach = np.arange(len(values))
    low = np.maximum(reach - window // 2, 0)
    high = np.minimum(reach + window // 2 + 1, len(values))
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    total, count = sums[high] - sums[low], counts[high] - counts[low]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _ticks(low: float, high: float, limit: float, room: float) -> list[float]:
    """Ticks from `low` to `high` that always hold no change and the mark.

    The others keep a distance of `room`, a share of the axis, so that their labels do not touch.
    """
    chosen = [0.0, limit]
    least = room * (squash(max(high, limit), limit) - squash(min(low, 0.0), limit) + 1.0)
    for tick in sorted(_TICKS, key=abs):
        place = squash(tick, limit)
        apart = min(abs(place - squash(other, limit)) for other in chosen)
        if low <= tick <= high and apart >= least:
            chosen.append(tick)
    return sorted(chosen)


def _tick_text(tick: float) -> str:
    return signed_percent(tick, 0).replace("-", "\N{MINUS SIGN}").replace(" ", "\N{NO-BREAK SPACE}")
