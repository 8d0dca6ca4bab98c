"""How every measurement is written: its values, and where they come from.

A result names the commits that its runs were trained and audited at, with ``-dirty`` where a file
that was used is not committed as it was; a hash of ddrl's package and of each file beside it;
hardware, versions, seeds, and the command that makes it again. ``docs/generate.py`` publishes
nothing that was made from a dirty tree.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from ddrl.jobs.machine import driver_version
from ddrl.runs.provenance import describe_result

__all__ = ["RESULTS", "ROOT", "Budget", "budget_arguments", "ddrl", "write_result"]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def ddrl(*arguments: str) -> str:
    """Run a ddrl command; its progress goes to the terminal, its result is returned."""
    command = [sys.executable, "-m", "ddrl", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def write_result(
    name: str,
    values: Mapping[str, object],
    *,
    script: str,
    arguments: str = "",
    files: Iterable[str] = (),
    seeds: Sequence[int] = (),
    runs: Iterable[Path] = (),
    folder: Path = RESULTS,
) -> None:
    """Write ``<name>.json``, in ``benchmarks/results`` unless told otherwise.

    Where no git is, the commit is that of the environment's ``DDRL_COMMIT``.

    Args:
        name: of the file.
        values: what was measured.
        script: ``__file__`` of the measurement.
        arguments: of its command line.
        files: what it used beside itself, this file and ddrl's package; recipes, for example.
        seeds: of its runs.
        runs: folders of the runs that it is made from.
        folder: where the file is written.
    """
    path = Path(script).resolve()
    used = [path, Path(__file__), *(ROOT / file for file in files)]
    command = f"python {path.relative_to(ROOT).as_posix()} {arguments}".strip()
    made = describe_result(command, files=used, seeds=seeds, runs=runs)
    given = os.environ.get("DDRL_COMMIT", "")
    for key in ("trained_at", "audited_at", "reported_at"):
        made[key] = [commit or given for commit in made[key]]
    if torch.cuda.is_available():
        made["driver"] = driver_version()
    text = json.dumps({"provenance": made, **values}, indent=1, ensure_ascii=False)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    beside = file.with_suffix(".json.new")  # a run that is cut leaves the last whole file
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(file)
    shown = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
    print(f"written to {shown}", file=sys.stderr)


class Budget:
    """Seconds that a script may take; what there is no time for is left out and named.

    Args:
        seconds: in all, from now; 0: without end.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds if seconds else float("inf")
        self.skipped: list[str] = []

    def allows(self, name: str, seconds: float) -> bool:
        """Whether something that takes so long still fits; it is named as skipped if not."""
        fits = self.left() >= seconds
        if not fits:
            self.skipped.append(name)
        return fits

    def left(self) -> float:
        """Seconds until the end."""
        return self._end - time.monotonic()


def budget_arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with ``--out``, ``--seconds`` and ``--tiny``."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for what is written")
    parser.add_argument("--seconds", type=float, default=0.0, help="to stop after; 0: never")
    parser.add_argument("--tiny", action="store_true", help="small, on any device: a test")
    return parser
