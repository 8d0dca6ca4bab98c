"""The memory that a plan promises against the memory that an iteration takes.

A SD3-like network of 28 million parameters, LoRA of rank 32 or all weights, with activations kept
or computed again, in float32 or with autocast to bfloat16; one process per case. On the CPU the
resident set is measured, over what the process has after an iteration of a tiny model; with CUDA,
what PyTorch's allocator gives out.

Writes memory.json (with CUDA gpu_memory.json) to `--out`, benchmarks/results without. `--cases 3`
takes three of the eight: both kinds of weights, and activations computed again. `--tiny` takes a
small network.   python benchmarks/memory_evidence.py
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.random_weights import (
    make_recipe,
    trainer_of,
    without_text_encoders,
    write_small_sd3,
)
from benchmarks.record import RESULTS, Budget, budget_arguments, write_result

from ddrl.jobs.plan import plan_recipe

SIZE = (256, 256, 1)
MIB = 2**20
TELLING = [("bfloat16", 32, "false"), ("bfloat16", 0, "false"), ("bfloat16", 32, "true")]


def resident(name: str) -> int:
    """``VmRSS`` or ``VmHWM`` (its peak) of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def measure(folder: Path, overrides: list[str]) -> dict[str, int | str]:
    """The estimate and the measurement of one case, in this process."""
    torch.set_num_threads(1)
    recipe = make_recipe(str(folder), SIZE, overrides)
    plan = plan_recipe(recipe)
    on_gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as name:  # loads the kernels and whatever else is lazy
        write_small_sd3(Path(name), width=64, layers=1)
        trainer_of(make_recipe(name, (64, 64, 1), overrides)).iteration()
    gc.collect()
    before = 0 if on_gpu else resident("VmRSS")
    trainer = trainer_of(recipe)
    trainer.iteration()  # makes the moments, and replays
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        trainer.iteration()
        measured = torch.cuda.max_memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        trainer.iteration()
        measured = resident("VmHWM") - before
    phase, estimate = plan.memory.peak
    return {"estimate": estimate, "phase": phase, "measured": measured}


def main() -> None:
    """Measure every case in a process of its own."""
    parser = budget_arguments(__doc__)
    parser.add_argument("--cases", type=int, default=8, help="how many, the most telling first")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        with without_text_encoders():
            values = measure(arguments.folder, json.loads(arguments.case))
        print(json.dumps(values))
        return
    # Freed memory is given back, so that the resident set is what is alive.
    settings = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    how = "torch.cuda.max_memory_allocated" if torch.cuda.is_available() else "resident set, peak"
    rows: list[dict[str, Any]] = []
    budget = Budget(arguments.seconds)
    folder = arguments.out or (None if arguments.tiny else RESULTS)
    cases = list(itertools.product(("float32", "bfloat16"), (32, 0), ("false", "true")))
    if arguments.cases < len(cases):
        cases.sort(key=lambda case: TELLING.index(case) if case in TELLING else len(TELLING))
    with tempfile.TemporaryDirectory() as name:
        write_small_sd3(Path(name), width=64 if arguments.tiny else 256, layers=12)
        for precision, rank, again in cases[: arguments.cases]:
            if not budget.allows(f"{precision}, rank {rank}, checkpointing {again}", 30):
                continue
            overrides = [
                *(f"model.lora.rank={rank}", f"model.gradient_checkpointing={again}"),
                *(f"run.precision={precision}", f"model.dtype={precision if rank else 'float32'}"),
                *("rollout.prompts_per_step=1", "rollout.group_size=2", "rollout.steps=1"),
            ]
            command = [sys.executable, __file__, "--folder", name, "--case", json.dumps(overrides)]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=os.environ | settings
            )
            if done.returncode:
                sys.exit(done.stderr)
            values = json.loads(done.stdout.splitlines()[-1])
            row: dict[str, Any] = {
                "lora_rank": rank,
                "checkpointing": again == "true",
                "precision": precision,
            }
            row |= values | {"ratio": round(values["estimate"] / values["measured"], 3)}
            rows.append(row)
            print(
                f"rank {rank:2d}  checkpointing {again:5s}  {precision:8s}  "
                f"estimate {row['estimate'] / MIB:7.1f} MiB ({row['phase']})  "
                f"measured {row['measured'] / MIB:7.1f} MiB  ratio {row['ratio']:.3f}",
                flush=True,
            )
            if folder is not None:
                write_result(
                    "gpu_memory" if torch.cuda.is_available() else "memory",
                    {"measured_by": how, "unit": "bytes", "cases": rows},
                    script=__file__,
                    files=["benchmarks/random_weights.py"],
                    folder=folder,
                )


if __name__ == "__main__":
    main()
