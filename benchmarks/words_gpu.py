"""The words at a size for a GPU: does the paper's ordering hold there, within ten minutes?

recipes/words_gpu.toml with a shorter base, 16 prompts x 24 samples, three trained steps and one
data time a step; pictures are read in several processes. The base is made first, then a run per
method is trained and audited while `--seconds` leave time; what does not fit is named. After every
method it writes words_gpu.json to `--out` (benchmarks/results without) and one contact sheet of all
so far. `--tiny` does the same with a small network and few steps, on any device, and writes to
`--out` alone.

    `python benchmarks/words_gpu.py --seconds 530 --methods ddrl,none,reference --out results`
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.record import RESULTS, ROOT, Budget, budget_arguments, write_result

from ddrl.builders.device import configured
from ddrl.evaluation.measures.result import RunResult
from ddrl.evaluation.sheets import write_sheets
from ddrl.jobs.evaluate.audit import evaluate
from ddrl.jobs.train.run import TrainingRun
from ddrl.recipe import parse_recipe

RECIPE = "recipes/words_gpu.toml"
METHODS = {"ddrl": "data", "none": "none", "reference": "reference"}
SETTINGS = (
    *("model.pretrain.steps=5000", "model.pretrain.batch_size=128"),
    *("rollout.prompts_per_step=16", "rollout.group_size=24"),
    *("rollout.stochastic_steps=[1, 2, 3]", "rollout.trained_steps=[1, 2, 3]"),
    *("objective.data_per_step=one", "run.steps=80", "run.float32_matmul=high"),
    *("evaluation.prompts=32", "evaluation.samples_per_prompt=16", "evaluation.steps=10"),
)
TINY = (
    *(
        "model.width=32",
        "model.depth=1",
        "model.heads=2",
        "model.patch=8",
        "model.pretrain.steps=3",
    ),
    *("rollout.prompts_per_step=2", "rollout.group_size=2", "rollout.steps=4"),
    *("run.steps=2", "run.device=cpu", "run.threads=1", "run.precision=float32"),
    *("run.micro_batch=0", "model.pretrain.batch_size=4"),
    *("evaluation.prompts=2", "evaluation.samples_per_prompt=2", "evaluation.steps=2"),
)


def train(method: str, folder: Path, *, tiny: bool, budget: Budget) -> dict[str, Any]:
    """Train one method until it is finished or out of time."""
    workers = 2 if tiny else max(1, (os.cpu_count() or 1) - 2)
    text = (ROOT / RECIPE).read_text(encoding="utf-8")
    recipe = parse_recipe(
        text.replace('name = "ocr"', f'name = "ocr"\noptions.workers = {workers}'),
        overrides=[
            *(*SETTINGS, *(TINY if tiny else ())),
            *(f"objective.regularizer={METHODS[method]}", "evaluation.every=0"),
            *(f"run.folder={folder / method}", f"run.cache={folder / 'cache'}"),
            "run.tensorboard=false",
        ],
    )
    start = time.monotonic()
    with configured(recipe):
        run = TrainingRun(recipe, f"python benchmarks/words_gpu.py --methods {method}")
        # An audit takes a minute at most; it is what a run is for.
        outcome = run.execute(should_stop=lambda: budget.left() < (0 if tiny else 75))
    seconds = time.monotonic() - start
    return {"steps": outcome.step, "of": recipe.run.steps, "seconds": round(seconds, 1)}


def measured(result: RunResult) -> dict[str, Any]:
    """What the audit found of one model."""
    loss = result.heldout_loss_change
    return {
        "reward": round(result.reward.value, 4),
        **{one.name: round(one.value.value, 4) for one in result.measures},
        "frechet": round(result.frechet.value, 5),
        "diversity": round(result.diversity.value, 4),
        "heldout_loss_change": round(loss if isinstance(loss, float) else loss.value, 5),
    }


def main() -> None:
    """Train and audit the methods that there is time for."""
    parser = budget_arguments(__doc__)
    parser.add_argument("--methods", default=",".join(METHODS), help="some of, in this order")
    arguments = parser.parse_args()
    methods = arguments.methods.split(",")
    if unknown := set(methods) - set(METHODS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if not torch.cuda.is_available() and not arguments.tiny:
        sys.exit("there is no CUDA device; --tiny tests this script without one")
    budget, rows = Budget(arguments.seconds), dict[str, Any]()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        out = arguments.out or (folder if arguments.tiny else RESULTS)
        trained, grids = list[Path](), dict[str, Any]()
        for method in methods:
            if not budget.allows(method, 0 if arguments.tiny else 100):
                continue
            row = train(method, folder, tiny=arguments.tiny, budget=budget)
            trained.append(folder / method)
            report = evaluate(trained[-1:], out=folder / "audits" / method)
            for result in report.runs:
                name = "base" if result.is_base else method
                rows[name] = measured(result)
                grids[name] = report.samples[result.name][:4]
            rows[method] |= row
            write(out, rows, budget.skipped, trained)
            # One file: four prompts of the base, then the same four of every method.
            write_sheets({"words_gpu": np.concatenate(list(grids.values()))}, out)
    for name, row in rows.items():
        print(name, json.dumps(row))
    print(f"skipped: {json.dumps(budget.skipped)}")


def write(folder: Path, rows: dict[str, Any], skipped: list[str], runs: list[Path]) -> None:
    """Write the file as it stands."""
    values = {"settings": list(SETTINGS), "methods": rows, "skipped": skipped}
    write_result("words_gpu", values, script=__file__, files=[RECIPE], runs=runs, folder=folder)


if __name__ == "__main__":
    main()
