"""One palette for pages, charts and figures, which can be seen on its paper in both themes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from matplotlib.colors import to_rgb
from matplotlib.markers import MarkerStyle
from tests.evaluation.example_report import example_report

import ddrl.evaluation
from ddrl.evaluation.pages import palette
from ddrl.evaluation.pages.page import render_page

PACKAGE = Path(ddrl.evaluation.__file__).parent
RUNS = [f"run-{i}" for i in range(len(palette.MARKERS))]
BOTH = pytest.mark.parametrize("colours", [palette.LIGHT, palette.DARK], ids=["light", "dark"])


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2, from 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [
            x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgb(colour)
        ]
        return float(0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@BOTH
def test_marks_and_lines_can_be_seen(colours: Mapping[str, str]) -> None:
    found = {
        (name, paper): contrast(colours[name], colours[paper])
        for name in (*RUNS, "hacked")
        for paper in ("paper", "page")
    }
    assert {where: ratio for where, ratio in found.items() if ratio < 3} == {}


@BOTH
def test_text_can_be_read(colours: Mapping[str, str]) -> None:
    pairs = [(name, paper) for name in ("ink", "text", "muted") for paper in ("paper", "page")]
    pairs += [(tone, f"{tone}-soft") for tone in ("clean", "hacked", "suspect", "plain")]
    pairs += [(tone, "paper") for tone in ("clean", "hacked", "suspect", "plain")]
    ratios = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}


def test_both_themes_name_the_same_colours() -> None:
    assert palette.LIGHT.keys() == palette.DARK.keys()


def test_each_place_has_a_colour_a_marker_and_a_glyph() -> None:
    assert len(palette.MARKERS) == len(palette.GLYPHS) == len(set(palette.MARKERS))
    assert all(MarkerStyle(marker).is_filled() for marker in palette.MARKERS)
    assert palette.run_colour(0) == palette.run_colour(len(palette.MARKERS))


def test_stand_ins_become_variables_of_the_page() -> None:
    drawn = f"{palette.INK} {palette.ALARM} {palette.run_colour(7)}"
    assert palette.with_variables(drawn) == "var(--ink) var(--hacked) var(--run-7)"


def test_a_page_has_every_variable_that_it_uses_in_both_themes() -> None:
    page = render_page(example_report())
    used = {name for name in re.findall(r"var\(--([a-z0-9-]+)\)", page) if name in palette.LIGHT}
    assert {"ink", "run-0", "run-2", "hacked"} <= used
    for name in used:
        assert len(re.findall(f"--{name}: #", page)) >= 2, name


def test_no_colour_of_a_page_or_a_chart_stands_elsewhere() -> None:
    found = {
        (path.name, colour)
        for path in (*PACKAGE.rglob("*.py"), *(PACKAGE / "pages" / "templates").iterdir())
        if path.name != "palette.py"
        for colour in re.findall(r"#(?:[0-9a-f]{6}|[0-9a-f]{3})\b", path.read_text("utf-8"))
    }
    assert found == {("report.css", "#fff")}, "of printed pages alone"
