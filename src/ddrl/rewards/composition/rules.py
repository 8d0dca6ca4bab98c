"""Whether what was found in a picture is what its prompt asks for: GenEval's rules on boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ddrl.rewards.composition.prompt import Composition, Item

MARGIN = 0.1
"""Share of both objects' sizes by which their centres have to differ, as in GenEval."""


@dataclass(frozen=True)
class Box:
    """An object that was found: its edges in pixels, y downwards, and the detector's confidence."""

    left: float
    top: float
    right: float
    bottom: float
    score: float


def relations(one: Box, other: Box, *, margin: float = MARGIN) -> set[str]:
    """Return where ``one`` is, seen from ``other``; nothing if their centres are too near.

    The offset of the centres loses ``margin`` times the sum of both widths (heights), and counts
    if what is left of it is more than half of the length of the offset. Source: arXiv 2310.11513.
    """
    dx = (one.left + one.right - other.left - other.right) / 2
    dy = (one.top + one.bottom - other.top - other.bottom) / 2
    length = math.hypot(dx, dy)
    wide = margin * (abs(one.right - one.left) + abs(other.right - other.left))
    high = margin * (abs(one.bottom - one.top) + abs(other.bottom - other.top))
    across = math.copysign(max(abs(dx) - wide, 0.0), dx)
    down = math.copysign(max(abs(dy) - high, 0.0), dy)
    if max(abs(across), abs(down)) < 1e-3:
        return set()
    found = set()
    if abs(across) > length / 2:
        found.add("left of" if across < 0 else "right of")
    if abs(down) > length / 2:
        found.add("above" if down < 0 else "below")
    return found


def suppress(boxes: Sequence[Box], *, max_overlap: float, limit: int) -> list[Box]:
    """Keep the most confident boxes, best first, without those that cover a better one again.

    Args:
        boxes: boxes of one name, in any order.
        max_overlap: intersection over union above which the less confident one goes.
        limit: how many at most.
    """
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda each: -each.score):
        if len(kept) < limit and all(_overlap(box, better) <= max_overlap for better in kept):
            kept.append(box)
    return kept


def _overlap(one: Box, other: Box) -> float:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (_area(one) + _area(other) - both)


def _area(box: Box) -> float:
    return (box.right - box.left) * (box.bottom - box.top)


def conditions(
    wanted: Composition,
    found: Mapping[str, Sequence[Box]],
    color_of: Callable[[str, Box], str],
    *,
    margin: float = MARGIN,
) -> list[float]:
    """Return how far each condition is met, 0 to 1; GenEval's verdict is whether all of them are 1.

    An item with a number n asks that it is there: min(f, n) / n for f that were found, or
    min(f, n) / max(f, n) where n + 1 is too many. A colour and a position are a condition each,
    about the n most confident ones: the share of n that has the colour, the share of pairs with
    the target's that are placed so; 0 where there are none. Any other exclusion from m on is 1
    below m, and (m - 1) / f from there.

    Args:
        wanted: what the prompt asks for.
        found: boxes by name, best first.
        color_of: the colour of a box of a name; asked only where a colour is wanted.
        margin: see :func:`relations`.
    """
    limits = dict(wanted.exclude)
    best = [list(found.get(item.name, ()))[: item.count] for item in wanted.include]
    met = []
    for item, boxes in zip(wanted.include, best, strict=True):
        number = len(found.get(item.name, ()))
        exact = limits.get(item.name) == item.count + 1
        met.append(min(number, item.count) / max(item.count, number if exact else 0))
        if item.color:
            right = sum(color_of(item.name, box) == item.color for box in boxes)
            met.append(right / item.count)
        if item.relation:
            met.append(_placed(item, boxes, best[item.target], margin))
    exact_names = {item.name for item in wanted.include if limits.get(item.name) == item.count + 1}
    for name, limit in wanted.exclude:
        if name not in exact_names:
            number = len(found.get(name, ()))
            met.append(1.0 if number < limit else (limit - 1) / number)
    return met


def _placed(item: Item, boxes: Sequence[Box], targets: Sequence[Box], margin: float) -> float:
    pairs = [(one, other) for one in boxes for other in targets]
    right = sum(item.relation in relations(one, other, margin=margin) for one, other in pairs)
    return right / len(pairs) if pairs else 0.0
