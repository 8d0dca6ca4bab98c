"""Runs the command line in processes that are forked where torch is loaded, and start at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.cli.command import ROOT, Result

from ddrl.cli import main


def context() -> ForkServerContext:
    """Of all processes that tests fork; they share one server."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["tests.flow.killed"])
    return made


def nothing() -> None:
    pass


@dataclass(frozen=True)
class Streams:
    """Where the standard streams lead; empty is closed."""

    stdin: str = os.devnull
    stdout: str = os.devnull
    stderr: str = os.devnull

    def install(self) -> None:
        """Make the streams as Python does when it starts."""
        for number, path in enumerate((self.stdin, self.stdout, self.stderr)):
            os.close(number)
            if path:
                flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
                assert os.open(path, flags) == number
            stream = os.fdopen(number, "r" if number == 0 else "w", closefd=False) if path else None
            name = ("stdin", "stdout", "stderr")[number]
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _run(
    commands: Sequence[Sequence[str]], streams: Streams, codes: Path, before: Callable[[], None]
) -> None:
    os.chdir(ROOT)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == 2 else signal.SIG_DFL)
    streams.install()
    before()
    code = 0
    for command in commands:
        try:
            main(list(command))
        except SystemExit as stop:
            code = int(stop.code or 0)
        with codes.open("a") as file:
            file.write(f"{code}\n")
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    os._exit(code)


@dataclass
class Forked:
    """Commands that run, one after another, in one process.

    Attributes:
        process: of them.
        folder: where output and exit codes are kept.
    """

    process: BaseProcess
    folder: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def wait_for(self, path: Path) -> None:
        """Wait until the process has made a file."""
        while not path.exists():
            assert self.process.is_alive(), self.finish()
            time.sleep(0.01)

    def codes(self) -> list[int]:
        """The exit code of each command, once all have ended."""
        self.finish()
        return [int(line) for line in (self.folder / "codes").read_text().split()]

    def finish(self) -> Result:
        """Wait for the end; the last exit code, and what the commands said to files."""
        self.process.join(180)  # several commands, on a machine that is busy
        assert self.process.exitcode is not None, "it hangs"
        texts = (self.folder / name for name in ("stdout", "stderr"))
        return Result(self.process.exitcode, *(t.read_text() if t.exists() else "" for t in texts))


def fork(
    folder: Path,
    *commands: Sequence[str | Path],
    streams: Streams | None = None,
    before: Callable[[], None] = nothing,
) -> Forked:
    """Start commands.

    Args:
        folder: for their output, where the streams are not given, and their exit codes.
        commands: the arguments of each.
        streams: of the process.
        before: called in the process; a function of a module, or a partial of one.
    """
    folder.mkdir(exist_ok=True)
    streams = streams or Streams(stdout=f"{folder}/stdout", stderr=f"{folder}/stderr")
    texts = [[str(argument) for argument in command] for command in commands]
    process = context().Process(target=_run, args=(texts, streams, folder / "codes", before))
    process.start()
    return Forked(process, folder)
