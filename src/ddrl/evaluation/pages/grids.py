"""The report's sample grids: pictures as data URIs, so that the page needs no other file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddrl.evaluation.findings.audit import Report
from ddrl.evaluation.findings.verdict import Verdict
from ddrl.evaluation.pages.tiles import MAX_TILE, moving_picture, picture, tile_side


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
    side = page_side(report)
    if report.real is not None:
        num_seeds = max((grid.shape[1] for grid in report.samples.values()), default=None)
        rows = picture_rows(report.prompts, report.real[:, :num_seeds], side=side)
        drawn.append(Panel("Real data", "", "example", rows))
    for run in report.runs:
        if run.name in report.samples:
            rows = picture_rows(
                report.prompts, report.samples[run.name], report.clips.get(run.name), side=side
            )
            drawn.append(Panel(run.label, verdicts[run.name].status, "seed", rows))
    return tuple(drawn)


def page_side(report: Report) -> int:
    """Return the longest side of each picture of a report."""
    grids = [*report.samples.values(), *([] if report.real is None else [report.real])]
    return tile_side(sum(grid.shape[0] * grid.shape[1] for grid in grids))


def picture_rows(
    prompts: tuple[str, ...],
    grid: NDArray[np.uint8],
    clips: NDArray[np.uint8] | None = None,
    *,
    side: int = MAX_TILE,
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each prompt with the data URIs of its pictures.

    Args:
        prompts: of the rows.
        grid: uint8 (P, S, H, W, 3).
        clips: uint8 (P', S', T, H, W, 3), P' <= P and S' <= S: shown moving, in place of theirs.
        side: longest side of a picture, in pixels.
    """

    def uri(row: int, seed: int) -> str:
        if clips is not None and row < clips.shape[0] and seed < clips.shape[1]:
            return moving_picture(clips[row, seed])
        return picture(grid[row, seed], side=side)

    return tuple(
        (prompt, tuple(uri(row, seed) for seed in range(grid.shape[1])))
        for row, prompt in enumerate(prompts)
    )
