"""What reward hacking looks like: two rewards of the digits, with DDRL and without a regularizer.

Runs are kept in runs/hacking. Writes benchmarks/results/hacking.json: the curves of the audits on
the way, the final audits, and samples of every model from the same noise. The pictures of
docs/hacking.md are drawn from it.

    python benchmarks/hacking.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.record import ROOT, ddrl, write_result
from torch import Tensor

from ddrl.evaluation.measures.generate import generate
from ddrl.runs.loaded import LoadedRun, load_run
from ddrl.training.logs.sinks import read_metrics

RECIPE = "recipes/digits.toml"
FOLDER = "runs/hacking"
SEED, SAMPLES, EVERY = 0, 100, 5
SHOWN = 2  # samples of each prompt
REWARDS = {"classifier": (), "ink": ("reward.0.name=ink", "optimizer.warmup_steps=10")}
METHODS = {"DDRL": (), "No regularizer": ("objective.regularizer=none",)}
CURVES = {
    "reward": "audit/reward",
    "judge_accuracy": "audit/held_out/judge_accuracy",
    "heldout_loss_change": "heldout_loss_change",
    "hacked": "audit/hacked",
}
FIGURES = ("reward", "judge_accuracy", "frechet", "diversity", "heldout_loss_change", "verdict")


def folder_of(reward: str, method: str) -> str:
    """Where a run is kept."""
    return f"{FOLDER}/{reward}-{method.lower().replace(' ', '-')}"


def train(reward: str, method: str) -> dict[str, list[float]]:
    """Train with audits on the way; their figures by step."""
    folder = folder_of(reward, method)
    ddrl(
        *("train", RECIPE, *REWARDS[reward], *METHODS[method]),
        *(f"run.seed={SEED}", f"run.folder={folder}", "run.tensorboard=false"),
        *(f"evaluation.every={EVERY}", f"evaluation.panel_samples={SAMPLES}"),
    )
    lines = [
        line for line in read_metrics(ROOT / folder / "metrics.jsonl") if "audit/reward" in line
    ]
    curves = {name: [line[key] for line in lines] for name, key in CURVES.items()}
    return {"step": [line["step"] for line in lines], **curves}


def pictures(run: LoadedRun) -> list[str]:
    """Samples of every prompt, prompt by prompt, each as hexadecimal levels of grey."""
    section, held = run.recipe.evaluation, run.corpus.heldout
    samples = generate(
        run.forward,
        held.captions,
        condition=held.condition,
        samples_per_prompt=SHOWN,
        latent_shape=run.latent_shape,
        seed=section.seed,
        num_steps=section.steps,
        solver=section.solver,
    )
    return [hexadecimal(one) for one in samples.media]


def hexadecimal(media: Tensor) -> str:
    """A picture's grey levels, row by row, two digits each."""
    levels = (255 * media.mean(0).clamp(0, 1)).round().byte()
    return bytes(levels.flatten().tolist()).hex()


def real(run: LoadedRun) -> list[str]:
    """Held-out digits of every prompt, as many."""
    data = run.corpus.real
    return [
        hexadecimal(data.media[row])
        for prompt in range(len(run.corpus.heldout.captions))
        for row in (data.caption_id == prompt).nonzero()[:SHOWN, 0].tolist()
    ]


def main() -> None:
    """Train, audit and sample all four; write what came of them."""
    found: dict[str, Any] = {}
    for reward in REWARDS:
        curves = {method: train(reward, method) for method in METHODS}
        folders = [folder_of(reward, method) for method in METHODS]
        ddrl("evaluate", *folders, "--out", f"{FOLDER}/{reward}")
        report = json.loads((ROOT / FOLDER / reward / "report.json").read_text(encoding="utf-8"))
        runs = {method: load_run(ROOT / folder_of(reward, method)) for method in METHODS}
        first = runs["DDRL"]
        with first.as_base():
            samples = {"Base": pictures(first)}
        samples |= {method: pictures(run) for method, run in runs.items()}
        names = {"Base": "base", **{m: Path(folder_of(reward, m)).name for m in METHODS}}
        audits = {
            method: {key: report["runs"][name][key] for key in FIGURES}
            for method, name in names.items()
        }
        found[reward] = {"curves": curves, "audits": audits, "samples": samples}
        found["captions"], found["data"] = list(first.corpus.heldout.captions), real(first)
    write_result(
        "hacking",
        {"seed": SEED, "samples": SAMPLES, "every": EVERY, **found},
        script=__file__,
        files=[RECIPE],
        seeds=[SEED],
        runs=[ROOT / folder_of(reward, method) for reward in REWARDS for method in METHODS],
    )


if __name__ == "__main__":
    main()
