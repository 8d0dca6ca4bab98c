"""The digits table of docs/evidence.md: methods side by side, three seeds, by the command line.

Runs are kept in runs/evidence and resumed, so that a stopped measurement goes on where it was.
Writes benchmarks/results/digits.json.   python benchmarks/digits_evidence.py
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
SEEDS = (0, 1, 2)
METHODS = {
    "DDRL, beta 1": [],
    "No regularizer": ["objective.regularizer=none"],
    "Reverse KL, beta 1": ["objective.regularizer=reference"],
    "Reverse KL, beta 0.1": ["objective.regularizer=reference", "objective.beta=0.1"],
    "Supervised fine-tuning": ["objective.policy=none"],
}
FIGURES = ("reward", "judge_accuracy", "frechet", "diversity", "heldout_loss_change")


def folder(method: str, seed: int) -> str:
    """Where a run is kept."""
    name = "".join(c if c.isalnum() else "-" for c in method.lower())
    return f"runs/evidence/{name}-{seed}"


def main() -> None:
    """Train everything, evaluate seed by seed, write the figures."""
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in ("Base", *METHODS)}
    limit = 0.0
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    for seed in SEEDS:
        for method, overrides in METHODS.items():
            where = folder(method, seed)
            ddrl(
                "train",
                RECIPE,
                *overrides,
                f"run.seed={seed}",
                f"run.folder={where}",
                "run.tensorboard=false",
            )
            rows = read_metrics(ROOT / where / "metrics.jsonl")
            seconds[method].append(sum(row["seconds"] for row in rows))
        folders = [folder(method, seed) for method in METHODS]
        report = json.loads(
            ddrl("evaluate", *folders, "--json", "--out", f"runs/evidence/report-{seed}")
        )
        limit = report["drift_limit"]
        names = ["base", *(Path(name).name for name in folders)]
        for method, name in zip(figures, names, strict=True):
            figures[method].append({f: float(report["runs"][name][f]) for f in FIGURES})
    results = {
        method: {
            **{f: [round(row[f], 4) for row in rows] for f in FIGURES},
            **({"seconds": [round(s, 1) for s in seconds[method]]} if method in seconds else {}),
        }
        for method, rows in figures.items()
    }
    write_result(
        "digits",
        {"recipe": RECIPE, "seeds": list(SEEDS), "drift_limit": limit, "results": results},
        script=__file__,
        files=[RECIPE],
        seeds=SEEDS,
        runs=[ROOT / folder(method, seed) for method in METHODS for seed in SEEDS],
    )
    for method, row in results.items():
        means = "  ".join(f"{f} {statistics.mean(row[f]):.3f}" for f in FIGURES)
        print(f"{method:24s} {means}")


if __name__ == "__main__":
    main()
