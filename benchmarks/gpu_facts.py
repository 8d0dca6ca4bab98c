"""What a card does: copies, matrix products, attention by backend, launches, noise, compiling.

Each row is written when it is measured, so that a run that is cut leaves what it has; rows for
which `--seconds` leave no time are named.

Writes gpu_facts.json to `--out`, benchmarks/results without;
`--tiny` runs the same rows, small, on the CPU, and writes to `--out` alone.

    `python benchmarks/gpu_facts.py --seconds 60 --out results`
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.record import RESULTS, Budget, budget_arguments, write_result

from ddrl.jobs.machine import (
    BACKENDS,
    COPIES,
    PRECISIONS,
    attend,
    compile_seconds,
    copy_rate,
    matrix_rate,
    timed,
)
from ddrl.seeding import sample_noise

# Samples, heads, tokens, numbers of a head.
SHAPES = {
    "SD3.5-Medium 512, 8 samples": (8, 24, 1024 + 333, 64),
    "Wan2.1-1.3B 480p 33 frames": (1, 12, 9 * 30 * 52, 128),
    "FLUX 1024": (1, 24, 4096 + 512, 128),
}
TINY = dict.fromkeys(SHAPES, (1, 2, 32, 64))
Row = tuple[str, str, Callable[[], float]]


def small_work(device: torch.device, *, tiny: bool) -> Iterator[Row]:
    """Launches, copies that are waited for, and noise."""
    one = torch.zeros(1, device=device)
    yield "one kernel", "us", lambda: timed(lambda: one.add_(1), device) * 1e6
    here = torch.zeros(1)
    yield "a copy that is waited for", "us", lambda: timed(lambda: here.to(device), device) * 1e6

    def noise() -> float:
        shape, ids = (16, 64, 64), range(2 if tiny else 16)
        start = time.perf_counter()
        drawn = sample_noise(shape, run_seed=0, purpose="facts", step=0, sample_ids=ids)
        return (time.perf_counter() - start) / drawn.numel() * 1e9

    yield "noise, drawn on the CPU", "ns a number", noise


def rows(device: torch.device, *, tiny: bool) -> Iterator[Row]:
    """Every row: its name, its unit, and what measures it; the most wanted first."""
    on_gpu = device.type == "cuda"
    size, num_bytes = (64, 2**12) if tiny else (8192 if on_gpu else 1024, 2**28)
    for precision in PRECISIONS:
        measure = partial(matrix_rate, device, precision, size=size)
        yield f"matrix product, {precision}", "FLOP/s", measure
    for kind in COPIES:
        yield f"copy {kind}", "byte/s", partial(copy_rate, device, kind, num_bytes=num_bytes)
    yield from small_work(device, tiny=tiny)
    for name, shape in (TINY if tiny else SHAPES).items():
        for masked in (False, True):
            for backend in BACKENDS:
                if backend == "math" and not tiny and shape[2] > 8192:
                    continue  # its table of all pairs of tokens does not fit
                label = f"attention, {name}, {'mask' if masked else 'no mask'}, {backend}"
                yield label, "s", partial(attend, device, backend, shape, masked=masked)
    yield "torch.compile of a block", "s", partial(compile_seconds, device)


def measured(name: str, unit: str, measure: Callable[[], float]) -> dict[str, Any]:
    """One row; what the card refuses is a finding, too."""
    row: dict[str, Any] = {"name": name, "unit": unit}
    try:
        return {**row, "value": measure()}
    except Exception as error:  # a backend that does not run, memory, a compiler that is missing
        said = str(error).strip().splitlines()
        return {**row, "failed": f"{type(error).__name__}: {said[0] if said else ''}"}


def main() -> None:
    """Measure all rows that there is time for."""
    arguments = budget_arguments(__doc__).parse_args()
    has_gpu = torch.cuda.is_available() and not arguments.tiny
    if not has_gpu and not arguments.tiny:
        sys.exit("there is no CUDA device; --tiny tests this script without one")
    device = torch.device("cuda" if has_gpu else "cpu")
    folder = arguments.out or (None if arguments.tiny else RESULTS)
    budget, found = Budget(arguments.seconds), list[dict[str, Any]]()
    for name, unit, measure in rows(device, tiny=arguments.tiny):
        if budget.allows(name, 20 if name.startswith("torch.compile") else 3):
            found.append(measured(name, unit, measure))
        if folder is not None:
            values = {"device": str(device), "rows": found, "skipped": budget.skipped}
            write(folder, values)
    for row in found:
        value = row.get("failed") or f"{row['value']:.4g} {row['unit']}"
        print(f"{row['name']:<70} {value[:80]}")
    print(f"skipped: {json.dumps(budget.skipped)}")


def write(folder: Path, values: dict[str, Any]) -> None:
    """Write the file as it stands."""
    write_result("gpu_facts", values, script=__file__, folder=folder)


if __name__ == "__main__":
    main()
