"""Training at real size: samples per second, memory, and share of the card's own rate.

SD3.5-Medium at 512 x 512 and Wan2.1-1.3B at 33 or 81 frames of 480 x 832, with random weights
from the releases' configs and random texts: LoRA and all weights, by DDRL, reverse KL, no
regularizer and supervised fine-tuning on the same data, as is and compiled. An iteration is the
trainer's, rewards and decoding included.

On a GPU it writes real_size.json, after every row, to `--out` (benchmarks/results without), and
takes operations and planned memory from real_size_analytic.json. Without a GPU it writes that file.
Rows for which `--seconds` leave no time are named. `--set key=value` changes the recipe of all.
`--tiny` runs small networks anywhere, to test this script, and writes to `--out` alone.

    `python benchmarks/real_size.py --model sd3 --seconds 260 --out results`
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.random_weights import trainer_of, without_text_encoders
from benchmarks.real_size_rows import METHODS, REAL, Setting, settings, tiny
from benchmarks.record import RESULTS, Budget, budget_arguments, write_result

from ddrl.jobs.machine import matrix_rate
from ddrl.jobs.operations import count_operations, operations_of_iteration
from ddrl.jobs.plan import plan_recipe

GIB = 2**30
COUNTED = ("rollout.", "objective.", "data.", "run.micro_batch")
"""Keys that the committed operations and samples depend on."""


@lru_cache
def _operations(setting: Setting) -> tuple[int, int]:
    return count_operations(setting.recipe())


@lru_cache
def committed() -> dict[tuple[str, ...], dict[str, Any]]:
    """The rows of real_size_analytic.json, by model, what is trained, and method."""
    path = RESULTS / "real_size_analytic.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return {(row["model"], row["trained"], row["method"]): row for row in rows}


def planned(setting: Setting) -> dict[str, Any]:
    """What a row says without being run."""
    name = METHODS[setting.method][0]
    recipe = setting.recipe()
    row: dict[str, Any] = {
        "model": setting.model.name,
        "trained": setting.what,
        "method": name,
        "compiled": setting.is_compiled,
        "gradient_checkpointing": recipe.model.gradient_checkpointing,
        "micro_batch": recipe.run.micro_batch,
        **({"set": list(setting.more)} if setting.more else {}),
    }
    known = committed().get((setting.model.name, setting.what, name))
    if known and not any(key.startswith(COUNTED) for key in _counted(setting.more)):
        row = {**known, **row}
        if setting.more:
            del row["planned_gib"]  # it is of the recipe without them
        return row
    plan = plan_recipe(recipe)
    # Neither the method nor compiling changes the operations of a pass.
    forward, both = _operations(replace(setting, method="sft", is_compiled=False))
    memory = plan.memory
    return row | {
        "samples": plan.num_samples or plan.num_data_samples,
        "forward_tflop_per_sample": round(forward / 1e12, 3),
        "forward_backward_tflop_per_sample": round(both / 1e12, 3),
        "tflop_per_iteration": round(operations_of_iteration(plan, forward, both) / 1e12, 9),
        # Text encoders are not on the device here.
        "planned_gib": {n: round((b - memory.text_encoders) / GIB, 2) for n, b in memory.phases},
    }


def _counted(more: Sequence[str]) -> list[str]:
    """Keys that are set, but for how a rollout is computed."""
    return [one for one in more if not one.startswith("rollout.merge")]


def measured(setting: Setting, device: torch.device) -> dict[str, Any]:
    """Seconds per iteration, memory and the first ratios, after an iteration that isn't counted."""
    try:
        return _timed(setting, device)
    except torch.cuda.OutOfMemoryError:
        return {"failed": "out of memory"}
    except Exception as error:  # what a card refuses is a finding; the other rows go on
        said = str(error).strip().splitlines()
        return {"failed": f"{type(error).__name__}: {said[0] if said else ''}"}
    finally:  # what was trained is gone, and the next row finds the card empty
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _timed(setting: Setting, device: torch.device) -> dict[str, Any]:
    on_gpu = device.type == "cuda"
    trainer = trainer_of(setting.recipe())
    first = trainer.iteration()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    calls = 2 if setting.model.size[2] > 1 else 3
    start = time.perf_counter()
    for _ in range(calls):
        trainer.iteration()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / calls
    found: dict[str, Any] = {"seconds_per_iteration": round(seconds, 4), "timed": calls}
    for name in ("ratio_deviation", "rollout_deviation"):
        if name in first:
            found[name] = first[name]
    if on_gpu:
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 3)
        found["reserved_gib"] = round(torch.cuda.max_memory_reserved() / GIB, 3)
    return found


def run_row(setting: Setting, device: torch.device, rate: float) -> dict[str, Any]:
    """A row, planned and measured."""
    row = planned(setting)
    row |= measured(setting, device)
    if "seconds_per_iteration" in row:
        seconds = row["seconds_per_iteration"]
        row["samples_per_second"] = round(row["samples"] / seconds, 3)
        row["share_of_matmul_rate"] = round(row["tflop_per_iteration"] * 1e12 / seconds / rate, 4)
    return row


def expected_seconds(setting: Setting, rate: float) -> float:
    """What a row takes at two fifths of the card's rate, with building and compiling."""
    known = committed().get((setting.model.name, setting.what, METHODS[setting.method][0]))
    calls = 3 if setting.model.size[2] > 1 else 4
    work = calls * known["tflop_per_iteration"] * 1e12 / (0.4 * rate) if known else 0.0
    return work + (75 if setting.is_compiled else 15)


def table(rows: Sequence[dict[str, Any]], skipped: Sequence[str]) -> None:
    """What was found, in a line per row."""
    for row in rows:
        how = ", compiled" if row["compiled"] else ""
        found = row.get("failed") or (
            f"{row['samples_per_second']:.3g} samples/s, {row['share_of_matmul_rate']:.0%} of the "
            f"matrix rate, {row.get('peak_gib', 0)} GiB of {row.get('planned_gib')}, "
            f"|ratio - 1| {row.get('ratio_deviation', 0):.2g}"
        )
        print(f"{row['model']}, {row['trained']}, {row['method']}{how}: {found}")
    print(f"skipped: {json.dumps(list(skipped))}")


def main() -> None:
    """Measure, or compute where there is no GPU."""
    parser = budget_arguments(__doc__)
    parser.add_argument("--no-compile", action="store_true", help="leave out compiled rows")
    parser.add_argument("--model", help=f"some of {','.join(REAL)}; without: all")
    parser.add_argument("--methods", default=",".join(METHODS), help="some of, in this order")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="more")
    arguments = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    runs = on_gpu or arguments.tiny
    device = torch.device("cuda" if on_gpu else "cpu")
    budget, rows = Budget(arguments.seconds), list[dict[str, Any]]()
    folder = arguments.out or (None if arguments.tiny else RESULTS)
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        if arguments.tiny:
            stack.enter_context(without_text_encoders())
        models = tiny(Path(made)) if arguments.tiny else REAL
        names = arguments.model.split(",") if arguments.model else list(models)
        methods = arguments.methods.split(",")
        if unknown := [*(set(names) - set(models)), *(set(methods) - set(METHODS))]:
            parser.error(f"there is no {', '.join(unknown)}")
        rate = matrix_rate(device, "bfloat16", size=8192 if on_gpu else 64) if runs else 0.0
        compiled = on_gpu and not arguments.no_compile
        chosen = [models[name] for name in names]
        for setting in settings(chosen, methods, compiled=compiled, more=tuple(arguments.more)):
            if not runs:
                rows.append(planned(setting))
                print(rows[-1], flush=True)
            elif budget.allows(setting.label(), expected_seconds(setting, rate)):
                rows.append(run_row(setting, device, rate))
            if folder is not None and (runs or setting.model is chosen[-1]):
                write(folder, runs, rate, rows, budget.skipped)
    if runs:
        table(rows, budget.skipped)


def write(
    folder: Path, runs: bool, rate: float, rows: list[dict[str, Any]], skipped: list[str]
) -> None:
    """Write the file as it stands."""
    values: dict[str, Any] = {"matmul_tflops": round(rate / 1e12, 4), "rows": rows}
    if runs:
        values["skipped"] = skipped
    write_result(
        "real_size" if runs else "real_size_analytic",
        values,
        script=__file__,
        arguments=" ".join(sys.argv[1:]),
        files=["benchmarks/random_weights.py", "benchmarks/real_size_rows.py"],
        folder=folder,
    )


if __name__ == "__main__":
    main()
