"""The command line answers at once: its help, and reading a recipe, load no heavy library."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ["torch", "numpy", "scipy", "sklearn", "matplotlib", "PIL", "tensorboard", "safetensors"]
HELP_CPU_SECONDS = 0.5

RUN_HELP = """
import sys
from ddrl.cli import main
sys.argv = ["ddrl", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed."""
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr}"
    return done


def heavy_modules_after(code: str) -> list[str]:
    """The heavy libraries that a fresh interpreter has loaded after running `code`."""
    report = "import json, sys; print(); print(json.dumps(sorted(sys.modules)))"
    done = run(sys.executable, "-c", f"{code}\n{report}")
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    return [name for name in HEAVY if name in loaded]


@pytest.mark.parametrize(
    "code",
    ["import ddrl", "import ddrl.errors", "import ddrl.cli", "import ddrl.recipe", RUN_HELP],
    ids=["ddrl", "errors", "cli", "recipe", "help"],
)
def test_loads_no_heavy_library(code: str) -> None:
    assert heavy_modules_after(code) == []


def test_help_takes_little_cpu() -> None:
    def cpu_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(sys.executable, "-m", "ddrl", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    best = min(cpu_seconds() for _ in range(5))
    assert best < HELP_CPU_SECONDS, f"`ddrl --help` takes {best:.2f} s of CPU"


def test_module_and_script_are_the_same_command() -> None:
    script = Path(sys.executable).with_name("ddrl")
    assert script.exists(), "ddrl is not installed in this environment: run `make setup`"
    from_module = run(sys.executable, "-m", "ddrl", "--help").stdout
    assert "train" in from_module
    assert run(str(script), "--help").stdout == from_module
