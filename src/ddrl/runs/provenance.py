"""Where a run or a measurement comes from: commit, sources, command, versions, hardware."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ddrl.disk import read_object
from ddrl.recipe import Recipe

FORMAT = "ddrl-run/1"
DIRTY = "-dirty"

REQUIRED = ("torch", "numpy", "scikit-learn", "pydantic", "safetensors")
OPTIONAL = ("tensorboard", "wandb")

_PACKAGE = Path(__file__).resolve().parents[1]
_BUILD = ("pyproject.toml", "constraints.txt")  # beside the package, in its repository


def describe_start(recipe: Recipe, command: Sequence[str]) -> dict[str, Any]:
    """Everything that ``run.json`` says about the start of a run, as plain JSON values."""
    return {
        "format": FORMAT,
        "started": _now(),
        "command": list(command),
        "seed": recipe.run.seed,
        "commit": commit_of_source(),
        "sources": digest_of_source(),
        "hardware": describe_hardware(),
        "versions": _versions(),
    }


def describe_result(
    command: str,
    *,
    files: Iterable[Path] = (),
    seeds: Sequence[int] = (),
    runs: Iterable[Path] = (),
) -> dict[str, Any]:
    """What a result file says of its origin, as plain JSON values.

    Args:
        command: which makes it again.
        files: what it depends on beside ddrl's own package: the script, recipes.
        seeds: of its runs.
        runs: folders of runs that it is made from. They were trained at commits of their own;
            without any, everything was made now.

    Returns:
        ``trained_at``, ``audited_at`` and ``reported_at``: commits, with ``-dirty`` where a file
        that was used had been changed or was not committed; ``sources``: a hash of the package;
        ``files``: a hash of each of ``files``.
    """
    used = sorted({path.resolve() for path in files})
    commit = commit_of_source(used)
    trained = [name for folder in runs for name in _commits_of_run(folder)] or [commit]
    return {
        "created": _now(),
        "command": command,
        "trained_at": sorted(set(trained)),
        "audited_at": [commit],
        "reported_at": [commit],
        "sources": [digest_of_source()],
        "files": {_shown(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in used},
        "hardware": describe_hardware(),
        "versions": _versions(),
        "seeds": sorted(set(seeds)),
    }


def merged(
    command: str, files: Iterable[Path], parts: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The origin of a table made from several measurements.

    Args:
        command: which makes it again.
        files: what the table depends on beside ddrl's own package.
        parts: of :func:`describe_result`; measurements from before there was one have none.
    """
    whole = describe_result(command, files=files)
    for key in ("trained_at", "audited_at", "sources"):
        whole[key] = sorted({value for part in parts for value in part.get(key, [""])})
    whole["seeds"] = sorted({seed for part in parts for seed in part.get("seeds", [])})
    whole["hardware"] = "; ".join(sorted({str(part.get("hardware", "unknown")) for part in parts}))
    return whole


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    names = ("ddrl", *REQUIRED, *OPTIONAL)
    found = {name: version_of(name) for name in names}
    return {
        "python": platform.python_version(),
        **{name: text for name, text in found.items() if text},
    }


def version_of(package: str) -> str:
    """The installed version of a package, or an empty string."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def commit_of_source(files: Iterable[Path] = ()) -> str:
    """The commit of ddrl's own source; empty if it is not in git.

    Args:
        files: other files of the repository that are used.

    Returns:
        The commit, and ``-dirty`` behind it where the package, what it is built from, or one of
        ``files`` has been changed, or is there and not committed.
    """
    # A virtual environment inside of somebody's repository is not of that repository.
    if not _git(_PACKAGE, "ls-files", "--error-unmatch", "__init__.py"):
        return ""
    commit, root = (_git(_PACKAGE, "rev-parse", what) for what in ("HEAD", "--show-toplevel"))
    if not commit or not root:
        return ""
    used = [_PACKAGE, *(Path(root) / name for name in _BUILD), *files]
    inside = [str(path) for path in used if path.resolve().is_relative_to(Path(root).resolve())]
    status = ("status", "--porcelain", "--untracked-files=all", "--", *inside)
    return f"{commit}{DIRTY}" if _git(Path(root), *status) != "" else commit


def digest_of_source(package: Path = _PACKAGE) -> str:
    """A hash of every file of ddrl's package: names and content."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            content = path.read_bytes()
            digest.update(f"{path.relative_to(package).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def _shown(path: Path) -> str:
    """A path as it is in the repository, else its name: no result tells where a checkout lies."""
    root = _PACKAGE.parents[1]
    resolved = path.resolve()
    return resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else path.name


def _commits_of_run(folder: Path) -> list[str]:
    """The commits that a run was trained at; a result does not fail for want of them."""
    info = read_object(folder / "run.json")
    before = [str(one.get("commit_before", "")) for one in info.get("resumed", [])]
    return [*before, str(info.get("commit", ""))]


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where it fails, or is not there."""
    try:
        done = subprocess.run(
            ["git", "--literal-pathspecs", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


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
