"""Colours and marks of every page, chart and figure, in one place.

A page gets them as CSS variables, in a light and a dark theme. A chart inside a page is drawn with
stand-ins, which `with_variables` turns into those variables. A figure outside of pages (docs/)
takes the colours of `LIGHT` as they are. Nothing here needs matplotlib.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "paper": "#ffffff",
    "page": "#f6f7f9",
    "ink": "#16202c",
    "text": "#33404f",
    "muted": "#5d6b7b",
    "grid": "#e1e6ec",
    "line": "#d5dbe3",
    "soft": "#eef1f5",
    "clean": "#00705a",
    "clean-soft": "#e3f4ef",
    "hacked": "#b3291f",
    "hacked-soft": "#fcebe8",
    "suspect": "#865800",
    "suspect-soft": "#fdf2d5",
    "plain": "#566373",
    "plain-soft": "#edf0f4",
    "run-0": "#7a8796",
    "run-1": "#0072b2",
    "run-2": "#cf6f00",
    "run-3": "#b0568f",
    "run-4": "#00966d",
    "run-5": "#3f3fa8",
    "run-6": "#8a6d00",
    "run-7": "#c2185b",
}
"""Name -> colour on white paper. ``run-0`` is the base model's."""

DARK: Mapping[str, str] = {
    "paper": "#171d25",
    "page": "#0e1318",
    "ink": "#f0f4f8",
    "text": "#c9d2dc",
    "muted": "#93a1b0",
    "grid": "#2a333e",
    "line": "#323c48",
    "soft": "#202832",
    "clean": "#4cc9a6",
    "clean-soft": "#10302a",
    "hacked": "#ff8a7a",
    "hacked-soft": "#3a1c19",
    "suspect": "#f0bd4f",
    "suspect-soft": "#372b10",
    "plain": "#a3b0be",
    "plain-soft": "#222b35",
    "run-0": "#94a1af",
    "run-1": "#56b4e9",
    "run-2": "#f59e34",
    "run-3": "#dd8fbf",
    "run-4": "#3ecf9f",
    "run-5": "#9a9af0",
    "run-6": "#d8b73f",
    "run-7": "#ff7fab",
}
"""The same names on dark paper."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
"""Matplotlib's marker of each run by place, so that colour is never the only sign."""

GLYPHS = (
    "M8.6 7a4.4 4.4 0 1 0 8.8 0a4.4 4.4 0 1 0-8.8 0z",
    "M9 3h8v8H9z",
    "M13 2l5 9H8z",
    "M13 1.5L18.5 7 13 12.5 7.5 7z",
    "M13 12L8 3h10z",
    "M11.3 2.3h3.4v3h3v3.4h-3v3h-3.4v-3h-3V5.3h3z",
    "M10.4 2.2L13 4.8l2.6-2.6 2.2 2.2L15.2 7l2.6 2.6-2.2 2.2L13 9.2l-2.6 2.6-2.2-2.2L10.8 7"
    "L8.2 4.4z",
    "M13 1.8l4.6 2.6v5.2L13 12.2 8.4 9.6V4.4z",
)
"""The same marks as paths of SVG, in a box of 26 x 14."""

# Stand-ins that matplotlib can draw with.
INK, MUTED, GRID, ALARM, PAPER = (f"#0a0b{i:02x}" for i in range(5))
_NAMES = {INK: "ink", MUTED: "muted", GRID: "grid", ALARM: "hacked", PAPER: "paper"}
_RUN = "#0b0c"


def run_colour(place: int) -> str:
    """The stand-in for the colour of a run by its place; there are as many as marks."""
    return f"{_RUN}{place % len(MARKERS):02x}"


def with_variables(svg: str) -> str:
    """A drawing with CSS variables of the page in place of the stand-ins."""
    for colour, name in _NAMES.items():
        svg = svg.replace(colour, f"var(--{name})")
    return re.sub(f"{_RUN}([0-9a-f]{{2}})", lambda m: f"var(--run-{int(m[1], 16)})", svg)


def style_sheet() -> str:
    """Both themes as CSS: light, and dark on the screens that ask for it; paper is always light."""

    def variables(palette: Mapping[str, str]) -> str:
        return " ".join(f"--{name}: {colour};" for name, colour in palette.items())

    return (
        f":root {{ color-scheme: light dark; {variables(LIGHT)} }}\n"
        "@media screen and (prefers-color-scheme: dark) {\n"
        f"  :root {{ {variables(DARK)} }}\n"
        "}"
    )
