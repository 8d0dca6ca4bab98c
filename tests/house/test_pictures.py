"""The pictures of docs/images: each is shown, whole, and legible on a light and on a dark page."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox, BboxBase
from PIL import Image
from tests.evaluation.test_palette import contrast
from tests.house.test_results import EARLIER_PICTURES

from ddrl.evaluation.pages.palette import LIGHT

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
NAMES = ("figures", "fronts_pictures", "labels", "run_pictures", "style", "words_picture")
FRONTS = ("compare_digits_fronts", "compare_digits_ink")
CUTTINGS = ("report_", "hacking_")  # parts of pages, in the size that they have there
GITHUB_DARK = "#0d1117"


@pytest.fixture(scope="module")
def docs() -> Iterator[dict[str, ModuleType]]:
    """The modules that draw."""
    before = set(sys.modules)
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        yield {name: __import__(name) for name in NAMES}
    finally:
        sys.path.remove(str(ROOT / "docs"))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT / "docs")):
                del sys.modules[name]


@pytest.fixture(scope="module")
def charts(docs: dict[str, ModuleType]) -> dict[str, Figure]:
    """Every chart, drawn."""
    made: dict[str, Figure] = {}
    with docs["style"].drawing():
        made["effective_beta"] = docs["figures"].effective_beta()
        for name in FRONTS:
            text = (ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8")
            result: dict[str, Any] = json.loads(text)
            made[f"{name} alone"] = docs["fronts_pictures"].first_cost(result)
            made[name] = docs["fronts_pictures"].all_costs(result)
        for figure in made.values():
            figure.draw_without_rendering()
    return made


def marks(axes: Axes) -> list[Bbox]:
    """The box of each mark, in pixels of the file."""
    found = []
    for line in axes.lines:
        if line.get_marker() in (None, "None", "", " "):
            continue
        side = line.get_markersize() * axes.figure.dpi / 72
        points = axes.transData.transform(np.array(line.get_xydata(), dtype=np.float64))
        found += [Bbox.from_bounds(x - side / 2, y - side / 2, side, side) for x, y in points]
    return found


def names(axes: Axes) -> list[Annotation]:
    return [text for text in axes.texts if isinstance(text, Annotation)]


def within(inner: BboxBase, outer: BboxBase) -> bool:
    room = outer.padded(0.5)
    return bool(
        room.x0 <= inner.x0 and room.y0 <= inner.y0 and inner.x1 <= room.x1 and inner.y1 <= room.y1
    )


def meet(one: BboxBase, other: BboxBase) -> bool:
    both = Bbox.intersection(one, other)
    return both is not None and both.width * both.height > 1


def test_no_mark_is_cut_at_the_frame(charts: dict[str, Figure]) -> None:
    count = 0
    for name, figure in charts.items():
        for axes in figure.axes:
            boxes = marks(axes)
            count += len(boxes)
            assert [box for box in boxes if not within(box, axes.get_window_extent())] == [], name
    assert count > 100


def test_names_hide_no_mark_and_no_name(charts: dict[str, Figure]) -> None:
    count = 0
    for name, figure in charts.items():
        for axes in figure.axes:
            boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
            count += len(boxes)
            for (a, one), (b, other) in combinations(boxes.items(), 2):
                assert not meet(one, other), (name, a, b)
            for text in names(axes):
                box = text.get_window_extent()
                assert within(box, axes.get_window_extent()), (name, text.get_text())
                assert not any(meet(box, mark) for mark in marks(axes)), (name, text.get_text())
    assert count >= 18


def test_ticks_and_titles_do_not_touch_and_stand_on_the_card(charts: dict[str, Figure]) -> None:
    for name, figure in charts.items():
        for axes in figure.axes:
            ticks = [
                label.get_window_extent()
                for axis in (axes.xaxis, axes.yaxis)
                for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
                if axes.axison and min(axis.get_view_interval()) <= place
                if place <= max(axis.get_view_interval())
            ]
            others = [axes.xaxis.label.get_window_extent()]
            others += [axes._left_title.get_window_extent()]  # type: ignore[attr-defined]
            for one, other in combinations([*ticks, *others], 2):
                assert not meet(one, other), name
            assert all(within(box, figure.bbox) for box in (*ticks, *others)), name


def test_the_base_the_mark_and_the_way_to_better_are_told(charts: dict[str, Figure]) -> None:
    alone = " ".join(text.get_text() for text in charts[f"{FRONTS[0]} alone"].axes[0].texts)
    for word in ("DDRL", "Base model", "No regularizer", "better", "+10\N{NO-BREAK SPACE}%"):
        assert word in alone
    legend = charts[FRONTS[0]].axes[-1].get_legend()
    assert legend is not None
    assert "Base model" in [text.get_text() for text in legend.get_texts()]


def test_letters_of_every_colour_can_be_read(docs: dict[str, ModuleType]) -> None:
    for place in range(8):
        tone = docs["style"].for_text(LIGHT[f"run-{place}"])
        assert contrast(tone, LIGHT["paper"]) >= 4.5
    assert docs["style"].for_text(LIGHT["ink"]) == LIGHT["ink"]


def test_a_card_is_opaque_with_round_corners(docs: dict[str, ModuleType]) -> None:
    style = docs["style"]
    file = io.BytesIO()
    style.card(200).savefig(file, facecolor="none")
    drawn = np.asarray(Image.open(file).convert("RGBA"))
    photographed = np.asarray(style.as_card(Image.new("RGB", (400, 200), "white")))
    for pixels in (drawn, photographed):
        assert pixels[0, 0, 3] == 0, "the page shows through at the corner"
        height, width = pixels.shape[:2]
        assert (pixels[4:-4, width // 4 : -width // 4, 3] == 255).all()
        assert (pixels[height // 4 : -height // 4, 4:-4, 3] == 255).all()
    assert contrast(LIGHT["paper"], GITHUB_DARK) > 15


def test_frames_of_clips_stand_beside_each_other(docs: dict[str, ModuleType]) -> None:
    rows = {name: np.random.default_rng(0).random((2, 8, 12, 12)) for name in "abc"}
    with docs["style"].drawing():
        figure = docs["run_pictures"].clips_card(["one", "two"], rows)
    boxes = [axes.get_window_extent() for axes in figure.axes]
    boxes += [text.get_window_extent() for text in figure.texts]
    assert len(boxes) == 2 * 3 + 2 + 3
    assert all(within(box, figure.bbox) for box in boxes)
    assert not any(meet(one, other) for one, other in combinations(boxes, 2))


@pytest.mark.parametrize(
    ("asked", "found", "shown"),
    [
        ("lamp", "lamp", "lamp"),
        ("lamp", "LAMP", "LAMP"),
        ("lamp", "lanp", "la!np"),
        ("lamp", "lmp", "l!·mp"),
        ("lamp", "", "!·!·!·!·"),
        ("egg", "eggs", "egg!s"),
        ("egg", "e g g", "egg"),
        ("ring", "rnig", None),
    ],
)
def test_wrong_letters(
    docs: dict[str, ModuleType], asked: str, found: str, shown: str | None
) -> None:
    letters = docs["words_picture"].letters_read(asked, found)
    if shown is not None:
        assert "".join(letter if right else f"!{letter}" for letter, right in letters) == shown
    else:
        assert sum(not right for _, right in letters) == 2, "the fewest edits"


def test_every_picture_is_shown_and_every_picture_shown_is_there() -> None:
    shown = {
        (page.parent / place).resolve()
        for page in PAGES
        for place in re.findall(r"!\[[^]]*\]\(([^):]+\.png)\)", page.read_text("utf-8"))
    }
    assert {path.name for path in shown} == {path.name for path in IMAGES.glob("*.png")}
    assert all(path.is_file() for path in shown)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted(IMAGES.glob("*.png"))
        if path.stem not in EARLIER_PICTURES and not path.stem.startswith(CUTTINGS)
    ],
    ids=lambda path: path.stem,
)
def test_a_picture_is_as_sharp_as_its_place(docs: dict[str, ModuleType], path: Path) -> None:
    with Image.open(path) as picture:
        assert picture.width == docs["style"].WIDTH * docs["style"].SCALE
        assert picture.convert("RGBA").getpixel((0, 0))[3] == 0  # type: ignore[index]
