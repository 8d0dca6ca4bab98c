"""Writes metrics to a JSON-lines file, and reads them back.

Each call writes one row. A step has a row of its iteration, which has ``seconds``. An audited step
has a second row, which may come after those of later steps. :func:`read_metrics` joins the rows of
a step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ddrl.disk import open_regular, parse_json, replace_file
from ddrl.errors import CheckpointError
from ddrl.training.logs.shown import Shown


class MetricSink(Protocol):
    """Takes the metrics of iterations and of audits."""

    def write(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Record the metrics of an iteration or of an audit; a step may have both."""
        ...

    def show(self, shown: Shown | None, *, sentence: str, step: int) -> None:
        """Show a few samples and a verdict, where there are any, when an audit is recorded.

        Args:
            shown: the samples and their step; None where there are none.
            sentence: the verdict; empty where there is none.
            step: step of the audit.
        """
        ...

    def close(self) -> None:
        """Finish writing."""
        ...


class JSONLSink:
    """One JSON object per line, flushed after each.

    Args:
        path: path of the file.
        resume_at: iterations that a resumed run keeps; later rows are dropped, since the run
            makes them again.
        audited_at: step of the newest audit that it keeps; default: ``resume_at``.

    Raises:
        CheckpointError: the file can't be written.
    """

    def __init__(self, path: Path, *, resume_at: int = 0, audited_at: int | None = None) -> None:
        self._path = path
        audited_at = resume_at if audited_at is None else min(audited_at, resume_at)
        with named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = [
                row
                for row in _rows(path)
                if row["step"] <= (resume_at if "seconds" in row else audited_at)
            ]
            replace_file(path, "".join(json.dumps(row) + "\n" for row in kept))
            self._file = path.open("a", encoding="utf-8")

    def write(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Append a row; a number that is not finite is null, since JSON has no word for it."""
        known = {name: v if math.isfinite(v) else None for name, v in metrics.items()}
        with named_errors(self._path):
            self._file.write(json.dumps({"step": step, **known}) + "\n")
            self._file.flush()

    def show(self, shown: Shown | None, *, sentence: str, step: int) -> None:
        """Numbers alone go to this file."""

    def close(self) -> None:
        """Close the file."""
        with named_errors(self._path):
            self._file.close()


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing into one sentence."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"Metrics can't be written to {path}: {error.strerror or error}.",
            hint="free space or make the folder writable, then run the same command again; "
            "earlier checkpoints are kept",
        ) from error


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file as they are; a line cut short by a kill is left out."""
    try:
        with open_regular(path) as file:
            lines = file.read().decode(errors="replace").split("\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(
            f"Metrics can't be read from {path}: {error.strerror or error}.",
            hint="make it a file that can be read, or remove it: metrics start again without it",
        ) from error
    rows = []
    for text in lines:
        try:
            row = parse_json(text)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def _is_figure(value: object) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer beyond any float
        return False


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a metrics file: one mapping per step, in order, of all that is known about the step.

    Names that a later row of the step has again are taken from there. Numbers that are not finite
    are left out: they stopped the run, and are no figures. Empty where there is no file.

    Raises:
        CheckpointError: the file can't be read.
    """
    steps: dict[int, dict[str, Any]] = {}
    for row in _rows(path):
        known = {name: value for name, value in row.items() if _is_figure(value)}
        steps.setdefault(row["step"], {}).update(known)
    return [steps[step] for step in sorted(steps)]
