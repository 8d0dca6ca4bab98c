"""What is known of a run from its folder alone, whoever trains it, at any moment."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddrl.disk import read_json
from ddrl.evaluation.pages.watch_page import Series, State, Watched
from ddrl.runs.describe import method
from ddrl.runs.folder import RunFolder, read_recipe
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.logs.shown import Shown, newest_sheet
from ddrl.training.logs.sinks import read_metrics

_RECENT = 20  # iterations that the time left is judged by
_FRESH = 600.0  # seconds within which a run that can't be asked is taken to be alive


def watch_run(folder: Path, *, is_held: bool | None) -> Watched:
    """Read a run; nothing in its folder is changed.

    Args:
        folder: of the run.
        is_held: whether a process holds its lock; None: that can't be told.

    Raises:
        UsageError: the folder is not a run's, or its recipe is not one.
        CheckpointError: its metrics can't be read.
    """
    run = RunFolder(folder)
    recipe = read_recipe(run)
    rows = read_metrics(run.metrics)
    trained = [row for row in rows if "seconds" in row]
    step, total = max((row["step"] for row in trained), default=0), recipe.run.steps
    alive = _is_fresh(run.metrics) if is_held is None else is_held
    state, sentence = _state(run, step, total, alive=alive)
    recent = [float(row["seconds"]) for row in trained[-_RECENT:]]
    is_running = state == "running" and recent
    shown, info = newest_sheet(run.shown), _mapping(run.info)
    command = info.get("command", [])
    now = time.time()
    return Watched(
        name=folder.resolve().name,
        method=method(recipe),
        state=state,
        sentence=sentence,
        step=step,
        total=total,
        seconds_left=sum(recent) / len(recent) * (total - step) if is_running else None,
        drift_limit=recipe.evaluation.drift_limit,
        series=_series(rows),
        prompts=() if shown is None else shown.prompts,
        pictures=None if shown is None else shown.pictures,
        shown=_in_words(shown),
        command=shlex.join(map(str, command)) if isinstance(command, list) else "",
        read_at=now,
        read_at_text=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)),
    )


def _series(rows: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """Each metric's steps and values."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step":
                found.setdefault(name, []).append((row["step"], float(value)))
    return dict(found)


def _state(run: RunFolder, step: int, total: int, *, alive: bool) -> tuple[State, str]:
    """What a run does, and what there is to say about it."""
    if alive:
        return "running", "" if step else "No step is finished yet: model and data are made ready."
    saved = max(CheckpointFolder(run.checkpoints).steps(), default=0)
    kept = f"The newest checkpoint is of step {saved}" if saved else "There is no checkpoint yet"
    stop = _mapping(run.stopped)
    if stop:
        reason = str(stop.get("reason", ""))
        hint = f" Hint: {stop['hint']}." if stop.get("hint") else ""
        return "stopped", f"{reason}{hint} {kept}."
    if saved >= total:
        return "finished", f"Next: ddrl evaluate {shlex.quote(str(run.path))}"
    if saved == step and saved:
        return "interrupted", "The same command resumes it."
    when = f"after step {step}" if step else "before its first step was finished"
    return "died", f"It ended {when}. {kept}; the same command goes on from there."


def _in_words(shown: Shown | None) -> str:
    """What the pictures are."""
    if shown is None:
        return ""
    if shown.source == "audit":
        return f"Of the audit of step {shown.step}, from the same prompts and noise every time."
    return f"Of the rollout of step {shown.step}, with its noise of exploration."


def _is_fresh(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < _FRESH
    except OSError:
        return False


def _mapping(path: Path) -> Mapping[str, Any]:
    """A JSON object; empty where it is not there, or something else."""
    try:
        value: object = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
