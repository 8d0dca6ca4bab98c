"""The comparison's charts as SVG text: fronts of reward against what it cost, and curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes

from ddrl.evaluation.findings.comparison import ComparisonReport, Trade
from ddrl.evaluation.findings.wording import signed_percent
from ddrl.evaluation.measures.pareto import pareto_front
from ddrl.evaluation.pages.charts import as_svg, empty_chart, running_mean, squash
from ddrl.evaluation.pages.palette import ALARM, INK, MARKERS, PAPER, run_colour

_TICKS = (-0.2, -0.1, 0.0, 0.1, 0.3, 1.0, 3.0, 10.0)


def front_chart(report: ComparisonReport, trade: Trade) -> str | None:
    """Reward against a cost: each method's runs, their means over seeds, and its front.

    Args:
        report: what was measured.
        trade: which cost; the held-out loss is on the audit's scale, linear up to the mark.

    Returns:
        SVG text, or None where no run has both figures.
    """
    figure, axes = empty_chart(trade.head, "reward")
    place = _scale(report, trade)
    base = report.points(report.variants[0], trade, -1)[0]
    drawn, costs = 0, [float(base[1])]
    axes.plot([place(base[1])], [base[0]], "*", markersize=13, color=INK)
    for i, variant in enumerate(report.variants):
        colour, marker = run_colour(i + 1), MARKERS[i % len(MARKERS)]
        means = []
        for cell in report.cells:
            if cell.variant != variant or not cell.seeds:
                continue
            rewards = np.array([f.value for f in cell.figures["reward"]])
            paid = np.array([trade.cost(f.value) for f in cell.figures[trade.key]])
            known = np.isfinite(rewards) & np.isfinite(paid)
            if not known.any():
                continue
            rewards, paid = rewards[known], paid[known]
            x = [place(float(c)) for c in paid]
            axes.plot(x, rewards, marker, color=colour, markersize=4, alpha=0.45, linestyle="none")
            means.append((float(rewards.mean()), float(paid.mean())))
            costs += paid.tolist()
            drawn += 1
        if not means:
            continue
        all_means = np.array([*means, base])
        line = all_means[pareto_front(all_means)]
        axes.plot([place(c) for c in line[:, 1]], line[:, 0], color=colour, linewidth=1.6)
        axes.plot(
            [place(c) for _, c in means],
            [r for r, _ in means],
            marker,
            color=colour,
            markersize=9,
            markeredgecolor=PAPER,
            linestyle="none",
        )
    axes.margins(0.06)
    _axis(axes, report, trade, costs)
    return as_svg(figure, f"front-{trade.key}") if drawn else None


def curve_chart(report: ComparisonReport) -> str | None:
    """The training reward of each method, at the beta that ended with the most of it.

    Args:
        report: what was measured.

    Returns:
        SVG text, or None where no run has a curve.
    """
    figure, axes = empty_chart("training step", "reward while training")
    drawn = 0
    for i, variant in enumerate(report.variants):
        cells = [
            cell
            for cell in report.cells
            if cell.variant == variant and cell.curves and all(r for _, r in cell.curves)
        ]
        if not cells:
            continue
        best = max(cells, key=lambda cell: float(np.mean([c[1][-1] for c in cell.curves])))
        length = min(len(steps) for steps, _ in best.curves)
        rewards = np.mean([np.array(r[:length], dtype=np.float64) for _, r in best.curves], axis=0)
        steps = np.array(best.curves[0][0][:length], dtype=np.float64)
        axes.plot(
            steps,
            running_mean(rewards, max(length // 15, 1)),
            color=run_colour(i + 1),
            linewidth=2.0,
        )
        drawn += 1
    return as_svg(figure, "curves") if drawn else None


def _axis(axes: Axes, report: ComparisonReport, trade: Trade, costs: Sequence[float]) -> None:
    """The ticks of a cost's axis, and red past the mark."""
    if trade.key == "heldout_loss_change":
        limit = report.drift_limit
        ticks = [t for t in _TICKS if min(costs) - 0.02 <= t <= max(*costs, limit) + 0.02]
        axes.set_xticks([squash(t, limit) for t in ticks], [_percent(t) for t in ticks])
        right = max(axes.get_xlim()[1], squash(limit, limit) + 0.3)
        axes.set_xlim(axes.get_xlim()[0], right)
        axes.axvspan(squash(limit, limit), right, color=ALARM, alpha=0.07, linewidth=0)
        axes.axvline(squash(limit, limit), color=ALARM, linewidth=1.4, dashes=(5, 3))
    if trade.key == "frechet":
        low, high = math.log10(max(min(costs), 1e-9)), math.log10(max(costs))
        ticks = [t * 10**e for e in range(-3, 7) for t in (1, 2, 5)]
        ticks = [t for t in ticks if low - 0.05 <= math.log10(t) <= high + 0.05]
        axes.set_xticks([math.log10(t) for t in ticks], [f"{t:g}" for t in ticks])


def _scale(report: ComparisonReport, trade: Trade) -> Callable[[float], float]:
    """Where a cost is drawn."""
    if trade.key == "heldout_loss_change":
        return lambda cost: squash(cost, report.drift_limit)
    if trade.key == "frechet":
        return lambda cost: math.log10(max(cost, 1e-9))
    return float


def _percent(value: float) -> str:
    return signed_percent(value, 0).replace("-", "\N{MINUS SIGN}")
