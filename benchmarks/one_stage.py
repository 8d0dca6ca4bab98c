"""One stage or two: DDRL from the pretrained model, against fine-tuning on data and then DDRL.

The paper says that fine-tuning first is not needed. Both get the same number of data samples in
all. Runs are kept in runs/one-stage and resumed. Writes benchmarks/results/one_stage.json.

    python benchmarks/one_stage.py
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.record import ROOT, ddrl, write_result

from ddrl.training.logs.sinks import read_metrics

RECIPE = "recipes/digits.toml"
FOLDER = "runs/one-stage"
SEEDS = (0, 1, 2)
STEPS = 150  # of DDRL after fine-tuning; DDRL alone gets those of fine-tuning, too
FINE_TUNING = 75
COMMON = (
    *("run.tensorboard=false", "run.checkpoint_every=0", "evaluation.every=75"),
    "guard.max_ratio=1e5",  # the first update of a second stage can be far off
)


def train(name: str, seed: int, *overrides: str) -> tuple[str, float]:
    """Train one run; returns its folder and the held-out loss that it ended with."""
    folder = f"{FOLDER}/{name}-{seed}"
    place = (f"run.seed={seed}", f"run.folder={folder}")
    ddrl("train", RECIPE, *COMMON, *overrides, *place)
    rows = read_metrics(ROOT / folder / "metrics.jsonl")
    return folder, float([row["heldout_loss"] for row in rows if "heldout_loss" in row][-1])


def audit(folder: str) -> dict[str, float]:
    """Reward, judge, Fréchet distance and diversity of a run."""
    report = json.loads(ddrl("evaluate", folder, "--json"))
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
    results = {
        name: {key: [round(row[key], 4) for row in found] for key in found[0]}
        for name, found in rows.items()
    }
    write_result(
        "one_stage",
        {
            "recipe": RECIPE,
            "seeds": list(SEEDS),
            "steps": {"one stage": [STEPS + FINE_TUNING], "two stages": [FINE_TUNING, STEPS]},
            "results": results,
        },
        script=__file__,
        files=[RECIPE],
        seeds=SEEDS,
        runs=[ROOT / FOLDER / f"{name}-{seed}" for name in ("one", "sft", "two") for seed in SEEDS],
    )
    for name, row in results.items():
        print(name, {key: round(statistics.mean(values), 4) for key, values in row.items()})


if __name__ == "__main__":
    main()
