"""One stage or two: DDRL from the pretrained model, against fine-tuning on data and then DDRL.

The paper says that fine-tuning first is not needed. Both get the same number of data samples in
all. Runs are kept in runs/one-stage and resumed. Writes benchmarks/results/one_stage.json.

    python benchmarks/one_stage.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from ddrl.training.sinks import read_metrics

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "runs/one-stage"
SEEDS = (0, 1, 2)
STEPS = 150  # of DDRL after fine-tuning; DDRL alone gets those of fine-tuning, too
FINE_TUNING = 75
COMMON = (
    *("run.tensorboard=false", "run.checkpoint_every=0", "evaluation.every=75"),
    "guard.max_ratio=1e5",  # the first update of one second stage had a ratio of 1095
)


def run(*arguments: str) -> str:
    """Run a ddrl command; its progress goes to the terminal, its result is returned."""
    command = [sys.executable, "-m", "ddrl", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def train(name: str, seed: int, *overrides: str) -> tuple[str, float]:
    """Train one run; returns its folder and the held-out loss that it ended with."""
    folder = f"{FOLDER}/{name}-{seed}"
    place = (f"run.seed={seed}", f"run.folder={folder}")
    run("train", "recipes/digits.toml", *COMMON, *overrides, *place)
    rows = read_metrics(ROOT / folder / "metrics.jsonl")
    return folder, float([row["heldout_loss"] for row in rows if "heldout_loss" in row][-1])


def audit(folder: str) -> dict[str, float]:
    """Reward, judge, Fréchet distance and diversity of a run."""
    report = json.loads(run("evaluate", folder, "--json"))
    (figures,) = (v for name, v in report["runs"].items() if name != "base")
    names = ("reward", "judge_accuracy", "frechet", "diversity")
    return {name: float(figures[name]) for name in names}


def main() -> None:
    """Train all, audit all, write the figures."""
    rows: dict[str, list[dict[str, float]]] = {"one stage": [], "two stages": []}
    for seed in SEEDS:
        folder, loss = train("one", seed, f"run.steps={STEPS + FINE_TUNING}")
        rows["one stage"].append({"heldout_loss": loss, **audit(folder)})
        first, _ = train("sft", seed, "objective.policy=none", f"run.steps={FINE_TUNING}")
        folder, loss = train("two", seed, f"model.start={first}", f"run.steps={STEPS}")
        rows["two stages"].append({"heldout_loss": loss, **audit(folder)})
    info: dict[str, Any] = json.loads((ROOT / FOLDER / "one-0" / "run.json").read_text())
    results = {
        name: {key: [round(row[key], 4) for row in found] for key in found[0]}
        for name, found in rows.items()
    }
    text = json.dumps(
        {
            "commit": info.get("commit", ""),
            "hardware": info.get("hardware", ""),
            "versions": info.get("versions", {}),
            "recipe": "recipes/digits.toml",
            "seeds": list(SEEDS),
            "steps": {"one stage": [STEPS + FINE_TUNING], "two stages": [FINE_TUNING, STEPS]},
            "results": results,
        },
        indent=1,
    )
    (ROOT / "benchmarks/results/one_stage.json").write_text(text + "\n")
    for name, row in results.items():
        print(name, {key: round(statistics.mean(values), 4) for key, values in row.items()})


if __name__ == "__main__":
    main()
