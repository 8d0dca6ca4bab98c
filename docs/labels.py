"""Names beside the lines of a chart, where they hide the least."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from style import LETTERS, POINT, SCALE, for_text

LONGEST = 14  # letters of a line of a label


@dataclass(frozen=True)
class Line:
    """What a label is put beside: a line with marks, of at least one point.

    Attributes:
        label: its name.
        x: of its marks, shape (N,).
        y: likewise.
        tone: its colour.
    """

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    tone: str


def label_lines(axes: Axes, lines: Sequence[Line], taken: Sequence[Bbox] = ()) -> list[Annotation]:
    """Put the name of each line beside it, where it covers the least.

    Args:
        axes: they are drawn there, and the limits of the axes are final.
        lines: all that is drawn.
        taken: boxes in pixels of the file that hold something else.

    Returns:
        The labels, in the order of `lines`.
    """
    figure = axes.get_figure(root=True)
    figure.draw_without_rendering()
    marks = [axes.transData.transform(np.stack([line.x, line.y], 1)) for line in lines]
    ways = [along(axes, line) for line in lines]
    frame, boxes = axes.get_window_extent(), list(taken)
    made: dict[int, Annotation] = {}
    # One with few points has few places, so it chooses first.
    for i in sorted(range(len(lines)), key=lambda i: len(lines[i].x)):
        text = axes.annotate(
            _in_lines(lines[i].label),
            (0, 0),
            xycoords="figure pixels",
            color=for_text(lines[i].tone),
            fontsize=LETTERS * POINT,
            fontweight="bold" if i == 0 else "normal",
            va="bottom",
            linespacing=1.05,
        )
        text.set_in_layout(False)
        size = text.get_window_extent()
        others = np.concatenate([way for j, way in enumerate(ways) if j != i] or [marks[i][:0]])
        best = min(
            _places(marks[i], size.width, size.height),
            key=lambda box: _cost(box, marks[i], ways[i], others, boxes, frame),
        )
        text.set_position((best.x0, best.y0))
        boxes.append(best)
        made[i] = text
    return [made[i] for i in range(len(lines))]


def along(axes: Axes, line: Line) -> NDArray[np.float64]:
    """Points of a line in pixels of the file, a few apart; shape (N, 2)."""
    points = axes.transData.transform(np.stack([line.x, line.y], 1))
    parts = [points]
    for start, end in pairwise(points):
        steps = max(int(np.hypot(*(end - start)) / (4 * SCALE)), 1)
        parts.append(start + np.linspace(0, 1, steps + 1)[:, None] * (end - start))
    return np.concatenate(parts)


def _places(points: NDArray[np.float64], width: float, height: float) -> Iterator[Bbox]:
    """Boxes around the marks of a line: left and right of them, above and below."""
    for (x, y), far in product(points, (11 * SCALE, 20 * SCALE)):
        for share in (0.0, 0.5, 1.0):
            yield Bbox.from_bounds(x + far, y - share * height, width, height)
            yield Bbox.from_bounds(x - far - width, y - share * height, width, height)
        for share in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
            yield Bbox.from_bounds(x - share * width, y + far, width, height)
            yield Bbox.from_bounds(x - share * width, y - far - height, width, height)


def _in_lines(label: str) -> str:
    """A long name in two lines or more, after its comma if it has one."""
    parts = label.split(", ") if len(label) > LONGEST else [label]
    return ",\n".join(textwrap.fill(part, LONGEST) for part in parts)


def _cost(
    box: Bbox,
    marks: NDArray[np.float64],
    way: NDArray[np.float64],
    others: NDArray[np.float64],
    boxes: Sequence[Bbox],
    frame: Bbox,
) -> float:
    """How much a label hides there, and how little it is its line's own; ends come first."""
    outside = max(frame.x0 - box.x0, box.x1 - frame.x1, frame.y0 - box.y0, box.y1 - frame.y1, 0)
    overlap = sum(_shared(box, other.padded(4 * SCALE)) for other in boxes)
    hidden = 2 * inside(box.padded(3 * SCALE), others) + inside(box.padded(5 * SCALE), way)
    near = inside(box.padded(14 * SCALE), others)
    centre = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
    away = np.hypot(*(marks - centre).T)
    return (
        1e4 * (outside > 0)
        + 10 * overlap
        + 20 * hidden
        + 4 * near
        + 0.1 * away.min() / SCALE
        + 3 * away.argmin()
    )


def inside(box: Bbox, points: NDArray[np.float64]) -> int:
    """How many of the points are in a box."""
    x, y = points.T
    return int(((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).sum())


def _shared(one: Bbox, other: Bbox) -> float:
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else float(both.width * both.height)
