"""The commands of docs/tutorial.md, run literally in an empty folder, and what they print.

Writes benchmarks/results/tutorial.json.   python benchmarks/tutorial.py
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.record import ROOT, write_result

PAGE = "docs/tutorial.md"
FIGURES = ("reward", "judge_accuracy", "heldout_loss_change")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def steps(text: str) -> Iterator[tuple[str, str]]:
    """What a reader does, in order: ("file name", its text) and ("$", a command)."""
    for kind, body in FENCE.findall(text):
        if kind == "python":
            yield body.partition("\n")[0].removeprefix("# "), body
        for line in body.splitlines() if kind == "console" else ():
            yield "$", line.removeprefix("$ ")


def follow(text: str, folder: Path, *, python: str = sys.executable) -> dict[str, list[str]]:
    """Do what a page says, in a folder; the lines that each command printed.

    Raises:
        CalledProcessError: a command fails.
    """
    printed = {}
    for what, body in steps(text):
        if what != "$":
            (folder / what).write_text(body, encoding="utf-8")
            continue
        program, *arguments = shlex.split(body, comments=True)
        assert program == "ddrl", body
        command = [python, "-m", "ddrl", *arguments]
        done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
        printed[shlex.join([program, *arguments])] = done.stdout.rstrip().splitlines()
    return printed


def figures(report: Path) -> dict[str, dict[str, object]]:
    """What the page's sentences are about, for each model of a report."""
    runs = json.loads(report.read_text(encoding="utf-8"))["runs"]
    return {
        name: {**{key: run[key] for key in FIGURES}, "verdict": run["verdict"]["status"]}
        for name, run in runs.items()
    }


def main() -> None:
    """Follow the page, and keep what was printed, measured, and how long it took."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        printed = follow((ROOT / PAGE).read_text(encoding="utf-8"), folder)
        minutes = (time.monotonic() - start) / 60
        reports = {path.parent.name: figures(path) for path in folder.glob("runs/*/report.json")}
    values = {"minutes": minutes, "printed": printed, "reports": reports}
    write_result("tutorial", values, script=__file__)


if __name__ == "__main__":
    main()
