"""The look of docs/images: a light card of the width of a page, in the colours of the report.

A picture is opaque, so that it reads the same on a light and on a dark page; only its round corners
let the page through. Its letters are sized for a phone, where the whole picture is 380 pixels wide.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ddrl.evaluation.pages.charts import STYLE
from ddrl.evaluation.pages.palette import LIGHT, MARKERS

IMAGES = Path(__file__).resolve().parent / "images"
WIDTH = 830
"""Pixels at which README.md is shown; files have `SCALE` times as many."""
SCALE = 2
RADIUS = 10  # as the report's panels
PADDING = 16
LETTERS = 17  # pixels
LONGEST = 14  # letters of a line of a label
POINT = 0.72  # of a pixel: a hundred pixels are an inch here

INK, MUTED, GRID, ALARM, PAPER, LINE = (
    LIGHT[name] for name in ("ink", "muted", "grid", "hacked", "paper", "line")
)
GOOD = LIGHT["clean"]


def colour(place: int) -> str:
    """Of a run by its place; the base model's is the first."""
    return LIGHT[f"run-{place % len(MARKERS)}"]


def for_text(tone: str) -> str:
    """A colour, mixed with ink for as much as letters need to be read on paper."""
    light, dark = (np.array(to_rgb(name)) for name in (tone, INK))
    for share in np.linspace(0.0, 1.0, 21):
        mixed = (1 - share) * light + share * dark
        linear = np.where(mixed <= 0.04045, mixed / 12.92, ((mixed + 0.055) / 1.055) ** 2.4)
        if 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.6:
            return to_hex(mixed)
    return INK


@contextmanager
def drawing() -> Iterator[None]:
    """Everything that is drawn inside has the look of the report's charts."""
    with rc_context({**STYLE, "font.size": LETTERS * POINT, "axes.axisbelow": True}):
        yield


def card(height: int, *, by_hand: bool = False) -> Figure:
    """An empty card of `WIDTH` times `height` pixels.

    Args:
        height: in pixels.
        by_hand: everything on it is given a place; otherwise charts share it with room around.
    """
    figure = Figure(figsize=(WIDTH / 100, height / 100), dpi=100 * SCALE)
    FigureCanvasAgg(figure)
    if not by_hand:
        x, y = PADDING / WIDTH, PADDING / height
        figure.set_layout_engine("constrained", rect=(x, y, 1 - 2 * x, 1 - 2 * y), w_pad=0, h_pad=0)
    figure.patch.set_visible(False)
    shape = FancyBboxPatch(
        (0.01, 0.01),
        WIDTH / 100 - 0.02,
        height / 100 - 0.02,
        boxstyle=f"round,pad=0,rounding_size={RADIUS / 100}",
        facecolor=PAPER,
        edgecolor=LINE,
        linewidth=POINT,
        transform=figure.dpi_scale_trans,
        zorder=-10,
    )
    shape.set_in_layout(False)
    figure.add_artist(shape)
    return figure


def chart(axes: Axes, x_label: str, y_label: str) -> None:
    """Axes as those of the report: the y label level above them, lines of the grid across."""
    axes.set_xlabel(x_label, color=MUTED, labelpad=6)
    axes.set_title(y_label, loc="left", color=MUTED, fontsize=LETTERS * POINT, pad=10)
    axes.patch.set_visible(False)
    axes.grid(axis="y", color=GRID)
    axes.tick_params(colors=MUTED)
    axes.tick_params(which="minor", length=0)
    axes.spines["bottom"].set_color(GRID)


def save(figure: Figure, name: str, source: dict[str, Any]) -> None:
    """Write a card, with what it was made from."""
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / f"{name}.png"
    said = {"Source": json.dumps(source), "Software": None}
    figure.savefig(path, metadata=said, transparent=False, facecolor="none")


def picture_at(figure: Figure, pixels: NDArray[Any], box: tuple[float, float, float]) -> Axes:
    """Put a picture on a card, its pixels as squares.

    Args:
        figure: the card.
        pixels: shape (H, W) or (H, W, 3), in [0, 1].
        box: left and top edge and the width, in pixels of the page, from the card's upper left.
    """
    left, top, width = box
    tall = figure.get_size_inches()[1] * 100
    height = width * pixels.shape[0] / pixels.shape[1]
    place = (left / WIDTH, 1 - (top + height) / tall, width / WIDTH, height / tall)
    axes = figure.add_axes(place)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return axes


def text_at(figure: Figure, text: str, x: float, y: float, **look: Any) -> Text:  # noqa: ANN401
    """Put text on a card: x and y are its middle line's, in pixels from the card's upper left."""
    tall = figure.get_size_inches()[1] * 100
    look = {"color": INK, "fontsize": LETTERS * POINT, "va": "center", **look}
    return figure.text(x / WIDTH, 1 - y / tall, text, **look)


def as_card(picture: Image.Image) -> Image.Image:
    """A picture of a page with the round corners and the edge of a card."""
    edge, radius = SCALE, RADIUS * SCALE
    mask = Image.new("L", (4 * picture.width, 4 * picture.height), 0)
    corners = (0, 0, mask.width - 1, mask.height - 1)
    ImageDraw.Draw(mask).rounded_rectangle(corners, 4 * radius, fill=255)
    made = picture.convert("RGBA")
    frame = (0, 0, made.width - 1, made.height - 1)
    ImageDraw.Draw(made).rounded_rectangle(frame, radius, outline=LINE, width=edge)
    made.putalpha(mask.resize(made.size, Image.Resampling.LANCZOS))
    return made
