"""Runs a comparison: each run in a process of its own, trained, then audited, resumable."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from ddrl.builders.assets import check_named
from ddrl.builders.device import configure
from ddrl.builders.tasks.table import task_of
from ddrl.disk import read_document, read_object
from ddrl.errors import DDRLError, GuardStop, RecipeError, UsageError
from ddrl.recipe import Recipe, parse_recipe, resolve_paths
from ddrl.recipe.comparison import PlannedRun
from ddrl.recipe.extras import check_extras
from ddrl.runs.folder import RunFolder

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_COMMANDS = ("train", "evaluate")

State = Literal["done", "stopped", "failed", "missing"]


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        run: which.
        state: ``done``: trained to its end and audited; ``stopped``: by the guard, and audited
            where it had a checkpoint; ``failed``; ``missing``: not there, or not finished.
        reason: of a stop or a failure, one sentence.
        audit: numbers of its report; None where there are none.
        seconds: that its iterations took.
        exit_code: of a failure, as a shell has it.
    """

    run: PlannedRun
    state: State
    reason: str = ""
    audit: Mapping[str, Any] | None = None
    seconds: float = 0.0
    exit_code: int = 0


@dataclass
class _Active:
    """A run that is being worked on."""

    run: PlannedRun
    command: int
    process: subprocess.Popen[bytes]
    log: IO[bytes]


@dataclass
class _Board:
    """What is to do, what is being done, and what has gone wrong."""

    waiting: list[PlannedRun]
    active: list[_Active] = field(default_factory=list)
    failures: dict[Path, tuple[str, int]] = field(default_factory=dict)


def pick_workers(wanted: int, *, has_accelerator: bool) -> int:
    """How many runs at once: as asked, else one per core, or one per accelerator.

    Raises:
        UsageError: fewer than one.
    """
    if wanted < 0:
        raise UsageError(f"{wanted} runs at once are too few.", hint="give --workers 1 or more")
    return wanted or (1 if has_accelerator else os.cpu_count() or 1)


def prepare(recipes: Sequence[Recipe]) -> None:
    """Check what recipes name, and make what the runs of an embedded task share.

    Bases, classifiers and judges are made once here, before several runs ask for them at once.
    Nothing is made for pretrained models.

    Raises:
        DDRLError: of the kind that fits, for what can't be had.
    """
    made: list[object] = []
    for recipe in recipes:
        check_extras(recipe)
        check_named(recipe)
        subject = (recipe.model, recipe.data.source, recipe.run.cache)
        if subject not in made:
            configure(recipe)
            task_of(recipe).prepare()
            made.append(subject)


def execute(
    runs: Sequence[PlannedRun],
    *,
    workers: int,
    should_stop: Callable[[], bool] = lambda: False,
    on_change: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> list[Outcome]:
    """Train and audit what is not there yet.

    A run that fails does not stop the others. Runs are asked to save and end when this process is
    asked to, and on Linux if it is killed, too.

    Args:
        runs: of :func:`ddrl.recipe.comparison.plan_runs`.
        workers: processes at once.
        should_stop: looked at now and then; true ends the work where it is.
        on_change: told (what happened, runs finished, runs in all).

    Returns:
        An outcome per run, in their order.
    """
    board = _Board([run for run in runs if not _is_finished(run)])
    total, asked = len(runs), False
    on_change(f"{total - len(board.waiting)} of {total} runs are there", *_progress(board, total))
    try:
        while board.waiting or board.active:
            if should_stop():
                board.waiting.clear()
                if not asked:
                    _signal(board, signal.SIGTERM)
                asked = True
            for run in [r for r in board.waiting if not _is_locked(r)]:
                if len(board.active) < workers:
                    board.waiting.remove(run)
                    board.active.append(_start(run, 0))
            for active in list(board.active):
                if active.process.poll() is not None:
                    what = _proceed(board, active, asked)
                    on_change(what, *_progress(board, total))
            time.sleep(_POLL_SECONDS)
    finally:
        _signal(board, signal.SIGTERM)
        for active in board.active:
            active.process.wait()
            active.log.close()
    return [read_outcome(run, failure=board.failures.get(run.folder)) for run in runs]


def _progress(board: _Board, total: int) -> tuple[int, int]:
    return total - len(board.waiting) - len(board.active), total


def _start(run: PlannedRun, command: int) -> _Active:
    """Start ``ddrl train`` or ``ddrl evaluate`` on a run; what it says goes to a log."""
    name = _COMMANDS[command]
    arguments = [str(run.folder), "--out", str(audit_of(run.folder)), "--sheets", "--allow-code"]
    if name == "train":
        arguments = [str(run.recipe_path), *run.overrides]
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        log = (run.folder / f"{name}.log").open("wb")
    except OSError as error:
        raise UsageError(
            f"The run folder {run.folder} can't be written: {error.strerror}.",
            hint="free some space, or give the comparison another folder",
        ) from error
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ddrl.cli.child", name, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **_threads(run), "DDRL_PARENT": str(os.getpid())},
        start_new_session=True,  # Ctrl-C comes to this process, which passes it on once
    )
    return _Active(run, command, process, log)


def _is_locked(run: PlannedRun) -> bool:
    """Whether a process is in the run's folder: one of a killed comparison saves before it ends."""
    path = RunFolder(run.folder).lock
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    return False


def _threads(run: PlannedRun) -> dict[str, str]:
    """Limits for libraries that read them when they are loaded."""
    count = run.recipe.run.threads
    return {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)} if count else {}


def _proceed(board: _Board, active: _Active, asked: bool) -> str:
    """Go on after a process has ended; returns what happened, in words."""
    active.log.close()
    board.active.remove(active)
    run, name, code = active.run, _COMMANDS[active.command], active.process.returncode
    what = f"{run.label}, seed {run.seed}"
    if asked:
        return f"{what}: stopped"
    if name == "train" and code in (0, GuardStop.exit_code):
        if code == 0 or _has_checkpoint(RunFolder(run.folder)):
            board.active.append(_start(run, 1))
        return f"{what}: {'trained' if code == 0 else 'stopped by the guard'}"
    if code == 0:
        return f"{what}: audited"
    log = run.folder / f"{name}.log"
    reason = f"{_last_error(log)} (exit {code}; see {log})"
    board.failures[run.folder] = reason, code if code > 0 else 128 - code
    return f"{what}: failed: {reason}"


def _last_error(log: Path) -> str:
    """The error that a command ended with."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it said nothing"])[-1]


def _signal(board: _Board, number: signal.Signals) -> None:
    for active in board.active:
        if active.process.poll() is None:
            active.process.send_signal(number)


def audit_of(folder: Path) -> Path:
    """Where a run's audit is kept."""
    return folder / "audit"


def _is_finished(run: PlannedRun) -> bool:
    return read_outcome(run).state in ("done", "stopped")


def read_outcome(run: PlannedRun, *, failure: tuple[str, int] | None = None) -> Outcome:
    """What is there of a run; figures of another recipe than the planned one are not taken.

    Args:
        run: which.
        failure: why its process failed, and its exit code, if it has.
    """
    if failure:
        return Outcome(run, "failed", failure[0], exit_code=failure[1])
    folder = RunFolder(run.folder)
    try:  # by value: a key that is newer than the file has its default
        saved = parse_recipe(read_document(folder.recipe))
        is_same = resolve_paths(saved) == resolve_paths(run.recipe)  # a run keeps whole paths
    except (OSError, ValueError, RecipeError):
        is_same = False
    if not is_same:
        return Outcome(run, "missing")
    reason = ""
    if folder.stopped.exists():
        reason = str(read_object(folder.stopped).get("reason", "stopped by the guard"))
    audit = read_object(audit_of(run.folder) / "report.json") or None
    if audit is None and (_has_checkpoint(folder) or not reason):
        return Outcome(run, "missing")
    seconds = sum(float(line.get("seconds", 0)) for line in _metrics(folder))
    return Outcome(run, "stopped" if reason else "done", reason, audit, seconds)


def _has_checkpoint(folder: RunFolder) -> bool:
    from ddrl.training.checkpoint import CheckpointFolder

    return bool(CheckpointFolder(folder.checkpoints).steps())


def _metrics(folder: RunFolder) -> list[Mapping[str, Any]]:
    from ddrl.training.logs.sinks import read_metrics

    try:
        return list(read_metrics(folder.metrics))
    except (OSError, DDRLError):
        return []
