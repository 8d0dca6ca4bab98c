"""Runs the command line in this process, or in one of its own."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.torch_state import TorchState

from ddrl.cli import main
from ddrl.training.logs.sinks import read_metrics

ROOT = Path(__file__).parents[2]

RECIPE = """\
[model]
width = 16
depth = 1

[model.pretrain]
steps = 20

[[reward]]
name = "ink"

[rollout]
prompts_per_step = 2
group_size = 4

[evaluation]
every = 2
samples_per_prompt = 8
steps = 4

[run]
steps = 4
checkpoint_every = 2
tensorboard = false
folder = "{folder}"
cache = "{cache}"
"""


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    def failed(self, code: int, *phrases: str) -> None:
        """Assert that it failed as an error should: on stderr, with advice, and no traceback."""
        assert self.code == code, self.stderr
        assert "error: " in self.stderr
        # A value of the wrong type is told what it must be; that is the advice.
        assert "hint: " in self.stderr or "must be" in self.stderr
        assert "Traceback" not in self.stderr
        assert self.stdout == ""
        for phrase in phrases:
            assert phrase in self.stderr


def ddrl(*arguments: str | Path) -> Result:
    """Run a command in this process, and leave torch's global state as it was."""
    out, err = io.StringIO(), io.StringIO()
    state = TorchState.capture()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    state.restore()
    assert isinstance(stop.value.code, int)
    return Result(stop.value.code, out.getvalue(), err.getvalue())


def heed_interrupts() -> None:
    """Shells have what they start in the background ignore SIGINT, and tests may be started so."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def spawn(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ddrl", *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )


def finish(process: subprocess.Popen[str]) -> Result:
    """Wait for a process."""
    stdout, stderr = process.communicate(timeout=60)
    return Result(process.returncode, stdout, stderr)


def shared_cache(factory: pytest.TempPathFactory) -> Path:
    """A cache for the tests of all workers: a key says all, so bases and judges are made once."""
    return cache_beside(factory.getbasetemp())


def cache_beside(root: Path) -> Path:
    """The same, from the folder that holds those of all tests of this worker."""
    return (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "ddrl-cache"


def write_recipe(folder: Path, factory: pytest.TempPathFactory, *, more: str = "") -> Path:
    """Write the smallest recipe; its run goes to ``folder / "run"``, and all share a cache."""
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(folder=folder / "run", cache=shared_cache(factory)) + more)
    return path


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The metrics of a run by step, without what a clock has measured."""
    return [without_seconds(row) for row in read_metrics(run / "metrics.jsonl")]


def rows_of(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics as they were written, likewise."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [without_seconds(json.loads(line)) for line in lines]


def without_seconds(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("seconds")}


def contents(folder: Path) -> dict[str, str]:
    """A hash of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def kept(run: Path) -> dict[str, str]:
    """A hash of every file that holds a run's work."""
    return {
        name: digest
        for name, digest in contents(run).items()
        if name.startswith("checkpoints/step-") or name == "metrics.jsonl"
    }
