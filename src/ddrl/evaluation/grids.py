"""The report's sample grids: pictures as data URIs, so that the page needs no other file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddrl.evaluation.audit import Report
from ddrl.evaluation.verdict import Verdict

__all__ = ["MAX_TILE", "SMALL_TILE", "Panel", "panels"]

MAX_TILE = 192
"""Pictures with a longer side than this, in pixels, are shown smaller."""
SMALL_TILE = 64
"""Pictures of at most this side, in pixels, are scaled up without smoothing and kept lossless."""
_ENLARGED = 128
_NEAREST = Image.Resampling.NEAREST


@dataclass(frozen=True)
class Panel:
    """One model's pictures.

    Attributes:
        label: the model, or "Real data".
        status: status of its verdict; empty for real data.
        unit: what a column is: "seed", or "example" of real data.
        rows: each prompt with the data URIs of its pictures.
    """

    label: str
    status: str
    unit: str
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def panels(report: Report, verdicts: dict[str, Verdict]) -> tuple[Panel, ...]:
    """Real data first, then every run that has samples, in the order of the report.

    Args:
        report: what was measured; real data is cut to as many columns as the samples have.
        verdicts: the verdict of each run by name.

    Returns:
        One panel for each model that has pictures.
    """
    drawn = []
    if report.real is not None:
        num_seeds = max((grid.shape[1] for grid in report.samples.values()), default=None)
        rows = _rows(report.prompts, report.real[:, :num_seeds])
        drawn.append(Panel("Real data", "", "example", rows))
    for run in report.runs:
        if run.name in report.samples:
            rows = _rows(report.prompts, report.samples[run.name])
            drawn.append(Panel(run.label, verdicts[run.name].status, "seed", rows))
    return tuple(drawn)


def _rows(
    prompts: tuple[str, ...], grid: NDArray[np.uint8]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple(
        (prompt, tuple(_picture(tile) for tile in row))
        for prompt, row in zip(prompts, grid, strict=True)
    )


def _picture(tile: NDArray[np.uint8]) -> str:
    """A (H, W, 3) picture as a data URI: PNG when small, else JPEG of at most `MAX_TILE`."""
    grey = bool((tile == tile[..., :1]).all())
    image = Image.fromarray(np.ascontiguousarray(tile[..., 0] if grey else tile))
    buffer = io.BytesIO()
    if max(image.size) <= SMALL_TILE:
        kind = "png"
        # Whole multiples first: a browser that fits 8 pixels into 27 makes some wider than others.
        factor = -(-_ENLARGED // max(image.size))
        image = image.resize((image.width * factor, image.height * factor), _NEAREST)
        image.save(buffer, "PNG", optimize=True)
    else:
        kind = "jpeg"
        image.thumbnail((MAX_TILE, MAX_TILE), Image.Resampling.LANCZOS)
        image.save(buffer, "JPEG", quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
