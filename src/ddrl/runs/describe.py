"""Runs in words, for a report: what they are called, where they come from, how to repeat them."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ddrl.runs.loaded import LoadedRun
from ddrl.runs.folder import RunFolder
from ddrl.disk import read_json
from ddrl.evaluation.measures.result import Curves, RunResult
from ddrl.recipe import Recipe
from ddrl.recipe.sizes import size_name


def label(recipe: Recipe) -> str:
    """A run's method in one or two words."""
    if recipe.objective.policy == "none":
        return "Supervised fine-tuning"
    return {"data": "DDRL", "reference": "Reverse KL", "none": "No regularizer"}[
        recipe.objective.regularizer
    ]


def method(recipe: Recipe) -> str:
    """A run's method in one line: reward, regularizer, beta."""
    objective = recipe.objective
    if objective.policy == "none":
        return f"{_data(recipe).capitalize()} alone, no reward"
    reward = " + ".join(section.title for section in recipe.reward)
    if objective.regularizer == "none":
        return f"Reward alone ({reward})"
    what = {"data": _data(recipe), "reference": "reference model"}[objective.regularizer]
    if recipe.data.target == "teacher":
        what = f"its start on {_data(recipe)}"
    return f"Reward ({reward}) and {what}, beta {objective.beta:g}"


def _data(recipe: Recipe) -> str:
    """What the policy is anchored to."""
    made = "samples of the base"
    return {"synthetic": made, "mixed": f"data and {made}"}.get(recipe.data.anchor, "data")


def distinct_labels(results: Sequence[RunResult]) -> list[RunResult]:
    """Runs of one method are told apart by their folder."""
    labels = [result.label for result in results]
    return [
        RunResult(**{**vars(result), "label": f"{result.label} ({result.name})"})
        if labels.count(result.label) > 1
        else result
        for result in results
    ]


def curves(metrics: Sequence[Mapping[str, Any]]) -> Curves:
    """Reward and held-out loss change over the iterations, from a run's metrics."""
    rewarded = [line for line in metrics if "reward" in line]
    return Curves(
        steps=tuple(int(line["step"]) for line in rewarded),
        rewards=tuple(float(line["reward"]) for line in rewarded),
        evaluations=(
            (0, 0.0),
            *(
                (int(line["step"]), float(line["heldout_loss_change"]))
                for line in metrics
                if "heldout_loss_change" in line
            ),
        ),
    )


def environment(runs: Sequence[LoadedRun], origin: Mapping[str, Any]) -> dict[str, str]:
    """What, where and with which seeds: the footer of a report."""
    section, rollout = runs[0].recipe.evaluation, runs[0].recipe.rollout
    seeds = ", ".join(str(run.recipe.run.seed) for run in runs)
    heldout = runs[0].corpus.real
    is_real = runs[0].recipe.data.source != "prompts"
    kind = "samples" if is_real else "samples of the base model, for prompts that are held out"
    info = _info(runs[0])
    return {
        "Code": f"ddrl {version('ddrl')}, {commits_in_words(origin)}",
        "Hardware": str(info.get("hardware", "unknown")),
        "Versions": f"Python {platform.python_version()}, PyTorch {torch.__version__}",
        "Seeds": f"runs {seeds}; evaluation {section.seed}",
        "Samples": f"{section.samples_per_prompt} per prompt, {section.solver}, "
        f"{section.steps} steps, averaged weights",
        **_sizes(runs[0].recipe),
        "Held-out data": f"{len(heldout)} {kind}, fixed noise at 8 times",
        "Training": f"{rollout.prompts_per_step} prompts x {rollout.group_size} samples, "
        f"{rollout.kernel}, {rollout.steps} steps",
    }


def _sizes(recipe: Recipe) -> dict[str, str]:
    """What a report says of several sizes."""
    shapes = recipe.data.shapes
    if len(shapes) < 2:
        return {}
    said = f"{', '.join(map(size_name, shapes))}: each prompt's samples have that of its data, and "
    said += "features see pictures of any size in the encoder's own frame"
    if len({frames for *_, frames in shapes}) > 1:
        said += "; motion is not compared between clips of different lengths"
    return {"Sizes": said}


def commits_in_words(origin: Mapping[str, Any]) -> str:
    """Which commits made a result; that training and audit differ is said."""
    trained, audited = (
        " and ".join(name or "unknown" for name in origin[key])
        for key in ("trained_at", "audited_at")
    )
    if trained == audited:
        return f"commit {trained}"
    return f"trained at commit {trained}, audited at another commit, {audited}"


def _info(run: LoadedRun) -> dict[str, Any]:
    """What the run was started with; a report does not fail for want of it."""
    try:
        info = read_json(RunFolder(run.folder).info)
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


def reproduce(
    folders: Sequence[Path], runs: Sequence[LoadedRun], overrides: Sequence[str] = ()
) -> str:
    """The commands that make a report again."""
    lines = [shlex.join(["ddrl", "train", f"{run.folder}/recipe.toml"]) for run in runs]
    return "\n".join([*lines, shlex.join(["ddrl", "evaluate", *map(str, folders), *overrides])])
