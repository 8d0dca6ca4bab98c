"""The reduced audit in a process of its own, which reads checkpoints while training goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ddrl import errors
from ddrl.disk import BESIDE, read_json, replace_file
from ddrl.errors import DDRLError, UsageError
from ddrl.named_code import folders
from ddrl.recipe import Recipe, dump_toml
from ddrl.runs.folder import RunFolder
from ddrl.training.logs.shown import Shown
from ddrl.training.safety.auditing import Audit

_POLL_SECONDS = 0.02


class PanelFolder:
    """Where a run and the process that audits it meet: ``panel`` in the run's folder.

    A process that outlives a killed run finishes its audit; what it writes carries its own token,
    so that the run's next process doesn't take it for an answer to what it asked.

    Args:
        run: the run's files.
        token: of the process that trains and of the one that it started.
    """

    def __init__(self, run: RunFolder, token: str) -> None:
        self.run, self.token = run, token
        self.path = run.path / "panel"
        self.log = self.path / "log.txt"
        self.recipe = self.path / f"recipe-{token}.toml"
        self.failure = self.path / f"failure-{token}.json"

    def result(self, step: int) -> Path:
        """What the audit of a checkpoint found."""
        return self.path / f"step-{step:08d}-{self.token}.json"

    def clear(self) -> None:
        """Remove what earlier processes have left."""
        for pattern in ("step-*", "failure*.json", "recipe*.toml", f"{BESIDE}*"):
            for old in self.path.glob(pattern):
                old.unlink(missing_ok=True)

    def write(self, path: Path, value: object) -> None:
        """Write a file at once, so that it is whole when it is there."""
        replace_file(path, json.dumps(value))


class BackgroundPanel:
    """Audits one checkpoint at a time in another process, which holds its own model and rewards.

    The process is started with training, measures the base, and waits for steps on its standard
    input. It ends when that is closed: when training ends, however it ends.

    Args:
        recipe: recipe of the run.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        token = f"{os.getpid()}-{time.time_ns()}"
        self._folder = PanelFolder(RunFolder(Path(recipe.run.folder)), token)
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[bytes] | None = None
        self._step = 0  # that is being audited

    def start(self) -> None:
        """Start the process.

        Raises:
            UsageError: the run's folder can't be written.
        """
        folder = self._folder
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.clear()
            folder.recipe.write_text(dump_toml(self._recipe), encoding="utf-8")
            self._log = folder.log.open("wb")
        except OSError as error:
            raise UsageError(
                f"{folder.path} can't be written: {error.strerror}.",
                hint="free some space, or set run.folder to another folder: run.folder=PATH",
            ) from error
        arguments = [str(folder.run.path), folder.token, *map(str, folders())]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ddrl.jobs.evaluate.panel_worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self._threads()},
            text=True,
            start_new_session=True,  # Ctrl-C is for training, which closes it when it ends
        )

    def begin(self, step: int) -> None:
        """Hand over the checkpoint of a step."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert not self._step, "one audit at a time"
        self._step = step
        with suppress(BrokenPipeError):  # it has ended; collect says why
            self._process.stdin.write(f"{step}\n")
            self._process.stdin.flush()

    def collect(self, *, wait: bool) -> Audit | None:
        """See :class:`~ddrl.training.safety.auditing.Auditor`."""
        while self._step and self._process is not None:
            ended = self._process.poll() is not None  # looked at first: a result may come last
            path = self._folder.result(self._step)
            if path.exists():
                found = read_json(path)
                path.unlink()
                if "shown" in found:
                    found["shown"] = Shown.unpack(found["shown"])
                audit, self._step = Audit(self._step, **found), 0
                return audit
            if ended:
                raise self._failure()
            if not wait:
                return None
            time.sleep(_POLL_SECONDS)
        return None

    def close(self) -> None:
        """End the process; an audit under way is begun again by a run that is resumed."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.kill()  # it writes its files at once, so nothing is left half
        self._process.wait()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        if self._log is not None:
            self._log.close()
        self._process, self._step = None, 0

    def _threads(self) -> dict[str, str]:
        """Limits for libraries that read them when they are loaded."""
        count = self._recipe.run.threads
        return {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)} if count else {}

    def _failure(self) -> DDRLError:
        """Why the process ended: its own error of ours, or what it said last."""
        step, folder = self._step, self._folder
        self._step = 0
        try:
            told: dict[str, Any] = read_json(folder.failure)
        except (OSError, ValueError):
            assert self._process is not None
            return DDRLError(
                f"The audit of step {step} ended with exit code {self._process.returncode}.",
                hint=f"see {folder.log}",
            )
        kind = getattr(errors, str(told["kind"]), DDRLError)
        failure: DDRLError = kind(str(told["message"]), hint=str(told["hint"]))
        return failure
