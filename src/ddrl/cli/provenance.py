"""What a run was started with: versions, commit, hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddrl.recipe import Recipe

__all__ = ["OPTIONAL", "REQUIRED", "commit_of_source", "describe_hardware", "describe_start"]

FORMAT = "ddrl-run/1"

REQUIRED = ("torch", "numpy", "scikit-learn", "pydantic", "safetensors")
OPTIONAL = ("tensorboard", "wandb")


def describe_start(recipe: Recipe, command: Sequence[str]) -> dict[str, Any]:
    """Everything that ``run.json`` says about the start of a run, as plain JSON values."""
    names = ("ddrl", *REQUIRED, *OPTIONAL)
    return {
        "format": FORMAT,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "seed": recipe.run.seed,
        "commit": commit_of_source(),
        "hardware": describe_hardware(),
        "versions": {
            "python": platform.python_version(),
            **{name: found for name in names if (found := version_of(name))},
        },
    }


def version_of(package: str) -> str:
    """The installed version of a package, or an empty string."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def commit_of_source() -> str:
    """The commit of ddrl's own source, ``-dirty`` if it was changed; empty if it is not in git."""
    source = Path(__file__).parent
    # A virtual environment inside of somebody's repository is not of that repository.
    if not _git(source, "ls-files", "--error-unmatch", Path(__file__).name):
        return ""
    return _git(source, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def describe_hardware() -> str:
    """Processor, threads and accelerator in one line."""
    import torch

    text = f"{_processor()}, {os.cpu_count()} cores, {_count(torch.get_num_threads(), 'thread')}"
    if torch.cuda.is_available():
        text += f", {torch.cuda.get_device_name()}"
    return text


def _processor() -> str:
    """The processor's name where the system tells it, else its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
