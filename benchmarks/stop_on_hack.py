"""When does `evaluation.stop_on_hack` stop a run? Three methods on the digits.

Runs are kept in runs/stop-on-hack. Writes benchmarks/results/stop_on_hack.json.

    python benchmarks/stop_on_hack.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.record import ROOT, write_result

from ddrl.errors import GuardStop
from ddrl.training.logs.sinks import read_metrics

RECIPE = "recipes/digits.toml"
FOLDER = "runs/stop-on-hack"
SEED, SAMPLES, EVERY = 5, 100, 10
METHODS = {
    "No regularizer": ("objective.regularizer=none",),
    "Reverse KL, beta 0.1": ("objective.regularizer=reference", "objective.beta=0.1"),
    "DDRL, beta 1": ("objective.beta=1.0",),
}
FIGURES = ("heldout_loss_change", "audit/held_out/judge_accuracy", "audit/diversity")


def train(method: str) -> dict[str, Any]:
    """Train with audits on the way; what the last one and the marked one said."""
    folder = f"{FOLDER}/{''.join(c if c.isalnum() else '-' for c in method.lower())}"
    overrides = [
        *METHODS[method],
        *(f"run.seed={SEED}", f"run.folder={folder}", "run.tensorboard=false"),
        *(f"evaluation.every={EVERY}", f"evaluation.panel_samples={SAMPLES}"),
        "evaluation.stop_on_hack=true",
    ]
    command = [sys.executable, "-m", "ddrl", "train", RECIPE, *overrides]
    code = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL).returncode
    if code not in (0, GuardStop.exit_code):
        sys.exit(f"{folder}: exit {code}")
    lines = read_metrics(ROOT / folder / "metrics.jsonl")
    audits = [line for line in lines if "audit/hacked" in line]
    best = [line for line in audits if line["audit/best"]]
    stopped = ROOT / folder / "stopped.json"
    return {
        "stopped_at": json.loads(stopped.read_text())["step"] if code else None,
        "last": shown(audits[-1]),
        "best": shown(best[-1]) if best else None,
        "folder": folder,
    }


def shown(line: dict[str, Any]) -> dict[str, float]:
    """Its step and figures."""
    found = {key.rpartition("/")[2]: value for key, value in line.items() if key in FIGURES}
    judges = {k.rpartition("/")[2]: v for k, v in line.items() if k.startswith("audit/held_out/")}
    return {"step": line["step"], **found, **judges}


def main() -> None:
    """Train all, write what became of them."""
    results = {method: train(method) for method in METHODS}
    folders = [ROOT / str(one.pop("folder")) for one in results.values()]
    for method, one in results.items():
        print(method, one)
    write_result(
        "stop_on_hack",
        {"seed": SEED, "samples": SAMPLES, "every": EVERY, "results": results},
        script=__file__,
        files=[RECIPE],
        seeds=[SEED],
        runs=folders,
    )


if __name__ == "__main__":
    main()
