"""How every measurement is written: its values, and where they come from.

A result names the commits that its runs were trained and audited at, with ``-dirty`` where a file
that was used is not committed as it was; a hash of ddrl's package and of each file beside it;
hardware, versions, seeds, and the command that makes it again. ``docs/generate.py`` publishes
nothing that was made from a dirty tree.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ddrl.runs.provenance import describe_result

__all__ = ["RESULTS", "ROOT", "ddrl", "write_result"]

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
) -> None:
    """Write ``benchmarks/results/<name>.json``.

    Args:
        name: of the file.
        values: what was measured.
        script: ``__file__`` of the measurement.
        arguments: of its command line.
        files: what it used beside itself, this file and ddrl's package; recipes, for example.
        seeds: of its runs.
        runs: folders of the runs that it is made from.
    """
    path = Path(script).resolve()
    used = [path, Path(__file__), *(ROOT / file for file in files)]
    command = f"python {path.relative_to(ROOT).as_posix()} {arguments}".strip()
    made = describe_result(command, files=used, seeds=seeds, runs=runs)
    text = json.dumps({"provenance": made, **values}, indent=1, ensure_ascii=False)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(f"written to {(RESULTS / f'{name}.json').relative_to(ROOT)}", file=sys.stderr)
