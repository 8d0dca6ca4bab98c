"""Runs ``ddrl train`` in processes that are killed: at a moment, or at a point of its writing.

A point is an event that a run comes to: before, in the midst of, or after a write, or an audit.
Nothing in ddrl knows of them: this wraps what it calls, in the process that is to be killed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from tests.cli import forked

import ddrl.jobs.evaluate.background
import ddrl.jobs.train.trainer
import ddrl.training.loop
from ddrl.cli import main
from ddrl.jobs.evaluate.background import BackgroundPanel
from ddrl.training import checkpoint as checkpoints
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.logs.sinks import JSONLSink
from ddrl.training.trainer import Trainer

KILLED = -signal.SIGKILL


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Points:
    """Counts the events of a process, and ends it at one of them.

    Args:
        kill_at: (name, how often it has come by then); none kills.
        log: gets a line per event, where it is given.
    """

    def __init__(self, kill_at: tuple[str, int] | None, log: Path | None) -> None:
        self._kill_at, self._log = kill_at, log
        self._counts: dict[str, int] = {}

    def reach(self, name: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1
        event = (name, self._counts[name])
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(json.dumps(event) + "\n")
        if event == self._kill_at:
            _kill()

    def is_next(self, name: str) -> bool:
        return (name, self._counts.get(name, 0) + 1) == self._kill_at

    def around(self, owner: Any, function: str, name: str) -> None:
        """Reach ``before NAME`` and ``after NAME`` at every call."""
        call: Callable[..., Any] = getattr(owner, function)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.reach(f"before {name}")
            result = call(*args, **kwargs)
            self.reach(f"after {name}")
            return result

        setattr(owner, function, wrapped)

    def install(self) -> None:
        self._install_rows()
        self.around(Trainer, "audit", "audit")
        self.around(Trainer, "iteration", "iteration")
        self.around(checkpoints, "save_file", "tensors")
        self.around(torch, "save", "state")
        self.around(checkpoints, "write_manifest", "manifest")
        self.around(Path, "replace", "replacing")
        self.around(CheckpointFolder, "annotate", "notes")
        self.around(CheckpointFolder, "_make_way", "way")
        self.around(CheckpointFolder, "_prune", "pruning")
        self.around(BackgroundPanel, "begin", "handing over")
        self._install_removal()
        # What the other process has found is there, and nobody knows of it yet.
        self.around(ddrl.jobs.evaluate.background, "Audit", "audit beside")

    def _install_rows(self) -> None:
        write = JSONLSink.write

        def wrapped(sink: JSONLSink, metrics: dict[str, float], *, step: int) -> None:
            name = "row" if "seconds" in metrics else "audit's row"
            self.reach(f"before {name}")
            if self.is_next(f"in {name}"):
                sink._file.write(json.dumps({"step": step, **metrics})[:25])
                sink._file.flush()
            self.reach(f"in {name}")
            write(sink, metrics, step=step)
            self.reach(f"after {name}")

        JSONLSink.write = wrapped  # type: ignore[method-assign, assignment]

    def _install_removal(self) -> None:
        remove = shutil.rmtree

        def wrapped(path: Path, *args: Any, **kwargs: Any) -> None:
            if Path(path).is_dir():  # not what is only tidied up in case that it is there
                if self.is_next("in removal"):
                    for file in list(Path(path).iterdir())[:2]:
                        file.unlink()
                self.reach("in removal")
            remove(path, *args, **kwargs)

        shutil.rmtree = wrapped  # type: ignore[assignment]


def _train(
    arguments: list[str],
    kill_at: tuple[str, int] | None,
    log: Path | None,
    output: Path,
    started: Connection | None,
) -> None:
    """The process: tells when training begins, and trains."""
    _Points(kill_at, log).install()
    if started is not None:
        train = ddrl.training.loop.train

        def wrapped(*args: Any, **kwargs: Any) -> bool:
            started.send("started")
            return train(*args, **kwargs)

        ddrl.training.loop.train = wrapped
    with output.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        main(["train", *arguments])


def train_until(
    arguments: list[str],
    output: Path,
    *,
    kill_at: tuple[str, int] | None = None,
    log: Path | None = None,
) -> int:
    """Train in a process that ends itself at a point, if it comes there; its exit code."""
    process = forked.context().Process(target=_train, args=(arguments, kill_at, log, output, None))
    process.start()
    return _joined(process)


def train_for(arguments: list[str], output: Path, *, seconds: float) -> int:
    """Train in a process that is killed so long after its training began; its exit code."""
    context = forked.context()
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(arguments, None, None, output, theirs))
    process.start()
    theirs.close()
    try:
        if mine.poll(60) and mine.recv():
            process.join(seconds)
    except EOFError:
        pass  # it ended before training began: the run was finished
    if process.is_alive():
        process.kill()
    return _joined(process)


def _joined(process: BaseProcess) -> int:
    process.join(120)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode
