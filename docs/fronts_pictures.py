"""Pictures of what reward costs: a comparison's methods over strengths of regularization."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from labels import Line, along, inside, label_lines
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from results import RESULTS, ROOT
from style import (
    ALARM,
    GOOD,
    INK,
    LETTERS,
    MUTED,
    PAPER,
    POINT,
    SCALE,
    card,
    chart,
    colour,
    drawing,
    for_text,
    save,
)

from ddrl.evaluation.findings.wording import signed_percent
from ddrl.evaluation.pages.palette import MARKERS

LOSS = "heldout_loss_change"
COSTS = {LOSS: "held-out loss change", "frechet": "Fréchet distance", "diversity": "diversity"}
TICKS = (-0.5, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
BASE = "Base model"


def draw(name: str, *, alone: bool = False) -> None:
    """The pictures of a committed comparison: three costs, and where asked for the first alone."""
    path = RESULTS / f"{name}.json"
    source = {
        "results": {
            path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        }
    }
    result = json.loads(path.read_text(encoding="utf-8"))
    with drawing():
        if alone:
            save(first_cost(result), name, source)
        save(all_costs(result), f"{name}_costs", source)


def first_cost(result: dict[str, Any]) -> Figure:
    """Reward against the change of the held-out loss, with a name beside each line."""
    figure = card(520)
    axes = figure.add_subplot()
    lines = _panel(axes, result, LOSS)
    zone = axes.text(
        0.99, 0.03, f"past the mark of {_percent(result['drift_limit'])}: hacked", ha="right"
    )
    zone.set(transform=axes.transAxes, color=ALARM, va="bottom")
    arrow = _better(axes, lines)
    label_lines(axes, lines, [zone.get_window_extent(), arrow])
    return figure


def all_costs(result: dict[str, Any]) -> Figure:
    """Reward against each cost, and a legend in the fourth quarter."""
    figure = card(720)
    figure.get_layout_engine().set(wspace=0.06, hspace=0.06)
    *quarters, last = figure.subplots(2, 2).flat
    lines = [_panel(axes, result, key) for axes, key in zip(quarters, COSTS, strict=True)]
    last.axis("off")
    handles = [_handle(place, name) for place, name in enumerate(_variants(result), 1)]
    star = Line2D([], [], marker="*", color=INK, linestyle="none", markersize=11, label=BASE)
    mark = _percent(result["drift_limit"])
    zone = Patch(facecolor=ALARM, alpha=0.15, label=f"past {mark}: hacked")
    last.legend(
        handles=[*handles, star, zone],
        loc="center",
        frameon=False,
        labelcolor=INK,
        labelspacing=0.7,
    )
    # More variety than data has is no gain, so nothing is called better there.
    for axes, drawn in zip(quarters[:2], lines[:2], strict=True):
        _better(axes, drawn)
    return figure


def _variants(result: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(cell["variant"] for cell in result["cells"]))


def _handle(place: int, name: str) -> Line2D:
    look = {"markersize": 8, "markeredgecolor": PAPER, "linewidth": 1.8}
    return Line2D([], [], marker=MARKERS[place - 1], color=colour(place), label=name, **look)


def _panel(axes: Axes, result: dict[str, Any], key: str) -> list[Line]:
    """One chart; what is in it, each method in the order of its rewards, the base last."""
    chart(axes, COSTS[key] + (", 1 is real data" if key == "diversity" else ""), "reward")
    lines = []
    for place, variant in enumerate(_variants(result), 1):
        points = [
            (cell["figures"][key]["mean"][0], cell["figures"]["reward"]["mean"][0])
            for cell in result["cells"]
            if cell["variant"] == variant and key in cell["figures"]
        ]
        x, y = np.array(sorted(points, key=lambda point: point[1]), dtype=np.float64).T
        lines.append(Line(variant, x, y, colour(place)))
    base = result["base"]["figures"]
    start = [np.array([base[name]["mean"][0]]) for name in (key, "reward")]
    lines.append(Line(BASE, *start, INK))
    for place, line in enumerate(lines[:-1]):
        look: dict[str, Any] = {"marker": MARKERS[place], "markersize": 8, "linewidth": 1.8}
        look |= {"markeredgecolor": PAPER, "markeredgewidth": 0.8, "zorder": 4 - 0.1 * place}
        axes.plot(line.x, line.y, color=line.tone, **look)
    axes.plot(*start, marker="*", color=INK, markersize=13, markeredgecolor=PAPER, zorder=5)
    _scale(axes, key, np.concatenate([line.x for line in lines]), result["drift_limit"])
    axes.margins(y=0.08)
    return lines


def _scale(axes: Axes, key: str, costs: NDArray[np.float64], limit: float) -> None:
    """The axis of a cost: ticks that can be read, room for whole marks, left is always better."""
    if key == LOSS:
        # Linear up to the mark and logarithmic past it; the report's asinh would leave the part
        # that matters a third of the width.
        def ahead(x: NDArray[np.float64]) -> NDArray[np.float64]:
            share = np.abs(x) / limit
            return np.sign(x) * np.where(share > 1, 1 + np.log10(np.maximum(share, 1)), share)

        def back(x: NDArray[np.float64]) -> NDArray[np.float64]:
            far = np.abs(x)
            return np.sign(x) * limit * np.where(far > 1, 10 ** (np.maximum(far, 1) - 1), far)

        axes.set_xscale("function", functions=(ahead, back))
        low, high = ahead(np.array([costs.min(), max(costs.max(), limit)]))
        room = 0.06 * (high - low)
        left, right = back(np.array([low - 2 * room, high + room]))
        axes.set_xlim(left, right)
        axes.axvspan(limit, right, color=ALARM, alpha=0.07, linewidth=0)
        axes.axvline(limit, color=ALARM, linewidth=1.4, dashes=(5, 3))
        _ticks(axes, [(t, _percent(t)) for t in TICKS if left <= t <= right], first=limit)
    elif key == "frechet":
        axes.set_xscale("log")
        axes.set_xlim(costs.min() / 1.25, costs.max() * 1.25)
        left, right = axes.get_xlim()
        shown = [t * 10.0**e for e in range(-3, 7) for t in (1, 2, 5)]
        _ticks(axes, [(t, f"{t:g}") for t in shown if left <= t <= right], first=shown[0])
        axes.set_xticks([], minor=True)
    else:
        room = 0.08 * float(np.ptp(costs))
        axes.set_xlim(costs.max() + room, costs.min() - room)
        axes.axvline(1.0, color=MUTED, linewidth=1.0, linestyle=":")


def _ticks(axes: Axes, ticks: Sequence[tuple[float, str]], *, first: float) -> None:
    """Those ticks whose labels don't touch: first the one that must be there, then 0, then others."""
    width = axes.get_figure(root=True).get_size_inches()[0] * 100 * axes.get_position().width
    left, right = axes.transScale.transform([(x, 1) for x in axes.get_xlim()])[:, 0]
    shown: list[tuple[float, float, str]] = []
    for value, text in sorted(ticks, key=lambda tick: (tick[0] != first, abs(tick[0]))):
        place = (axes.transScale.transform((value, 1))[0] - left) / (right - left) * width
        reach = 0.62 * LETTERS * len(text) + 6
        if place + reach / 2 > width + LETTERS:
            continue
        if all(
            abs(place - other) >= (reach + 0.62 * LETTERS * len(t)) / 2 for other, _, t in shown
        ):
            shown.append((place, value, text))
    axes.set_xticks([value for _, value, _ in shown], [text for _, _, text in shown])


def _better(axes: Axes, lines: Sequence[Line]) -> Bbox:
    """An arrow to more reward at less cost, low on the left or where it hides nothing.

    Returns:
        The box in pixels of the file that it takes.
    """
    look = {"arrowstyle": "-|>,head_width=0.35,head_length=0.6", "color": GOOD, "linewidth": 2}
    note = axes.annotate(
        "better",
        xy=(0, 0),
        xytext=(18, -28),
        xycoords="figure pixels",
        textcoords="offset points",
        color=for_text(GOOD),
        fontweight="bold",
        arrowprops={**look, "shrinkA": 0, "shrinkB": 0},
        fontsize=LETTERS * POINT,
    )
    note.set_in_layout(False)
    axes.get_figure(root=True).draw_without_rendering()
    box, frame = note.get_window_extent(), axes.get_window_extent()
    drawn = np.concatenate([along(axes, line) for line in lines])
    room = 8 * SCALE
    places = [
        (frame.x0 + room + i * room, frame.y0 + room + box.height + j * room)
        for i in range(int((frame.width - box.width) / room / 2))
        for j in range(int((frame.height - box.height) / room) - 1)
    ]

    def hidden(place: tuple[float, float]) -> int:
        there = box.translated(place[0] - box.x0, place[1] - box.y1)
        return inside(there.padded(room), drawn)

    note.xy = min(places, key=hidden)
    axes.get_figure(root=True).draw_without_rendering()
    return note.get_window_extent()


def _percent(value: float) -> str:
    return (
        signed_percent(value, 0)
        .replace("-", "\N{MINUS SIGN}")
        .replace("+0", "0")
        .replace(" ", "\N{NO-BREAK SPACE}")
    )
