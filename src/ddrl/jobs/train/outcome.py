"""What became of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ddrl.runs.folder import RunFolder
from ddrl.training.logs.sinks import read_metrics


@dataclass(frozen=True)
class TrainingOutcome:
    """What became of a run.

    Attributes:
        folder: of the run.
        step: that it has reached.
        steps: that its recipe asks for.
        finished: whether nothing is left to do; else the same call goes on.
        was_finished: whether nothing was left to do before, so that nothing was trained now.
        seconds: of all its iterations.
        reward: of the first and the newest iteration; None where there is none.
        heldout_loss_change: the newest, as a share of the base's loss; None where it is not known.
    """

    folder: Path
    step: int
    steps: int
    finished: bool
    was_finished: bool
    seconds: float
    reward: tuple[float, float] | None
    heldout_loss_change: float | None

    @classmethod
    def read(
        cls,
        folder: RunFolder,
        step: int,
        steps: int,
        *,
        finished: bool = True,
        was_finished: bool = False,
    ) -> Self:
        """Read what a run's metrics say up to ``step``, the one that it has reached."""
        rows = [row for row in read_metrics(folder.metrics) if row["step"] <= step]
        rewards, changes = _column(rows, "reward"), _column(rows, "heldout_loss_change")
        return cls(
            folder=folder.path,
            step=step,
            steps=steps,
            finished=finished,
            was_finished=was_finished,
            seconds=sum(_column(rows, "seconds")),
            reward=(rewards[0], rewards[-1]) if rewards else None,
            heldout_loss_change=changes[-1] if changes else None,
        )


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [row[name] for row in rows if name in row]
