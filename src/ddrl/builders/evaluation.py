"""Runs to a hacking audit: the same prompts, seeds and held-out data for the base and each run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddrl.builders.assets import Assets, build_judge, build_scorer, limit_threads
from ddrl.builders.describe import (
    curves,
    distinct_labels,
    environment,
    label,
    method,
    reproduce,
)
from ddrl.builders.runs import LoadedRun, load_run
from ddrl.builders.training import build_drift
from ddrl.data.sources import CaptionedMedia
from ddrl.errors import DataError
from ddrl.evaluation.audit import Report
from ddrl.evaluation.diversity import group_diversity
from ddrl.evaluation.fidelity import frechet_distance
from ddrl.evaluation.generate import SampleSet, generate
from ddrl.evaluation.statistics import Interval, bootstrap_interval
from ddrl.evaluation.verdict import Curves, RunResult
from ddrl.recipe import Recipe, difference
from ddrl.rewards.builtin.classifier import Classifier
from ddrl.training.forward import Forward

__all__ = ["evaluate_runs"]

SHOWN_PER_PROMPT = 8  # samples in the report's grids
NUM_RESAMPLES = 300  # each Fréchet distance costs an eigendecomposition

# Runs can stand in one table if these agree: the base, the held-out data, and what is measured.
COMPARED = (
    *("model.*", "data.source", "reward.*", "evaluation.*"),
    # The base is sampled as the runs are: else guidance would pass for training.
    *("rollout.guidance", "run.precision"),
)


@dataclass(frozen=True)
class _Bench:
    """What every model of a report is measured with."""

    recipe: Recipe
    assets: Assets
    base: Forward
    judge: Classifier
    real_features: NDArray[np.float64]
    base_losses: Tensor
    measure_loss: Callable[[Forward], Tensor]
    device: torch.device


def evaluate_runs(
    folders: Sequence[Path], *, progress: Callable[[str], None] | None = None
) -> Report:
    """Measure runs and the base that they share.

    Args:
        folders: of runs, at least one.
        progress: told what is being measured.

    Raises:
        DataError: the runs can't be compared, or a folder is no run.
        CheckpointError: a run has no whole checkpoint.
    """
    runs = [load_run(folder) for folder in folders]
    _check_comparable(runs)
    limit_threads(runs[0].recipe)
    bench = _build_bench(runs[0])
    names = _unique_names(runs)
    results: list[RunResult] = []
    grids: dict[str, NDArray[np.uint8]] = {}
    for name, run in [("base", None), *zip(names, runs, strict=True)]:
        if progress is not None:
            progress(f"evaluating {name}")
        forward = bench.base if run is None else run.forward
        samples = _generate(bench, forward)
        results.append(_measure(bench, name, run, forward, samples))
        grids[name] = _grid(samples.media, samples.prompts.prompt_id)
    heldout = bench.assets.splits.heldout
    return Report(
        title="Did the reward get hacked?",
        created=datetime.now(UTC).strftime("%Y-%m-%d"),
        prompts=heldout.captions,
        runs=tuple(distinct_labels(results)),
        samples=grids,
        real=_grid(heldout.head(SHOWN_PER_PROMPT).media, heldout.head(SHOWN_PER_PROMPT).caption_id),
        real_frechet=_real_frechet(bench),
        drift_limit=bench.recipe.evaluation.drift_limit,
        environment=environment(runs),
        reproduce=reproduce(folders, runs),
    )


def _check_comparable(runs: Sequence[LoadedRun]) -> None:
    first = runs[0]
    for run in runs[1:]:
        differences = [
            line
            for line in difference(first.recipe, run.recipe)
            if any(line.startswith(key.rstrip("*")) for key in COMPARED)
        ]
        if differences:
            raise DataError(
                f"{first.folder} and {run.folder} can't stand in one table: "
                f"{'; '.join(differences)}.",
                hint="evaluate them one by one",
            )


def _unique_names(runs: Sequence[LoadedRun]) -> list[str]:
    names = [run.folder.name for run in runs]
    return [
        name if names.count(name) == 1 and name != "base" else str(run.folder)
        for name, run in zip(names, runs, strict=True)
    ]


def _build_bench(run: LoadedRun) -> _Bench:
    recipe, device = run.recipe, run.device
    assets = Assets(run.splits, run.base, build_scorer(recipe, run.splits))
    assets.base.transformer.to(device)
    base = replace(run.forward, model=assets.base)
    judge = build_judge(recipe, assets.splits)
    meter = build_drift(recipe, assets, device)
    condition = assets.base.encode(assets.splits.heldout.captions)

    def measure_loss(forward: Forward) -> Tensor:
        return meter.losses(forward, condition)

    return _Bench(
        recipe=recipe,
        assets=assets,
        base=base,
        judge=judge,
        real_features=_features(judge, assets.splits.heldout.media),
        base_losses=measure_loss(base),
        measure_loss=measure_loss,
        device=device,
    )


def _features(judge: Classifier, media: Tensor) -> NDArray[np.float64]:
    features: NDArray[np.float64] = judge.features(media).double().numpy()
    return features


def _generate(bench: _Bench, forward: Forward) -> SampleSet:
    section, model = bench.recipe.evaluation, bench.assets.base
    return generate(
        forward,
        bench.assets.splits.heldout.captions,
        samples_per_prompt=max(section.samples_per_prompt, SHOWN_PER_PROMPT),
        latent_shape=model.latent_shape(model.config.height, model.config.columns),
        seed=section.seed,
        num_steps=section.steps,
        solver=section.solver,
        device=bench.device,
    )


def _measure(
    bench: _Bench, name: str, run: LoadedRun | None, forward: Forward, samples: SampleSet
) -> RunResult:
    seed = bench.recipe.evaluation.seed
    prompt_id = samples.prompts.prompt_id
    scores = bench.assets.scorer.score(samples.media, samples.prompts, prompt_id)
    rewards = scores.combined[scores.valid].double().numpy()
    right = bench.judge.log_prob(samples.media).argmax(1) == prompt_id
    features = _features(bench.judge, samples.media)

    def frechet(rows: NDArray[np.float64]) -> float:
        return frechet_distance(rows, bench.real_features)

    return RunResult(
        name=name,
        label="Base model" if run is None else label(run.recipe),
        reward=bootstrap_interval(rewards, seed=seed),
        judge_accuracy=bootstrap_interval(right.double().numpy(), seed=seed),
        frechet=bootstrap_interval(
            features, frechet, num_resamples=NUM_RESAMPLES, recentre=True, seed=seed
        ),
        diversity=_diversity(bench, features, prompt_id.numpy()),
        heldout_loss_change=_drift(bench, forward),
        is_base=run is None,
        method="Flow matching, before post-training" if run is None else method(run.recipe),
        num_steps=0 if run is None else run.step,
        seconds=0.0 if run is None else sum(line["seconds"] for line in run.metrics),
        curves=Curves() if run is None else curves(run.metrics),
    )


def _diversity(
    bench: _Bench, features: NDArray[np.float64], prompt_id: NDArray[np.int64]
) -> Interval:
    """Diversity as a ratio to the held-out data; the interval is over prompts."""
    real_id = bench.assets.splits.heldout.caption_id.numpy()
    _, generated = group_diversity(features, prompt_id)
    _, real = group_diversity(bench.real_features, real_id)
    pairs = np.stack([generated, real], axis=1)

    def ratio(rows: NDArray[np.float64]) -> float:
        return float(rows[:, 0].mean() / rows[:, 1].mean())

    return bootstrap_interval(pairs, ratio, seed=bench.recipe.evaluation.seed)


def _drift(bench: _Bench, forward: Forward) -> Interval:
    """Change of the held-out loss; the interval pairs each image with itself at the base."""
    pairs = torch.stack([bench.measure_loss(forward), bench.base_losses], dim=1).double().numpy()

    def change(rows: NDArray[np.float64]) -> float:
        return float(rows[:, 0].mean() / rows[:, 1].mean() - 1)

    return bootstrap_interval(pairs, change, seed=bench.recipe.evaluation.seed)


def _real_frechet(bench: _Bench) -> float:
    """Between two sets of real images that the judge has not been trained on."""
    return frechet_distance(
        _features(bench.judge, bench.assets.splits.reward.media), bench.real_features
    )


def _grid(media: Tensor, prompt_id: Tensor) -> NDArray[np.uint8]:
    """The first samples of every prompt as pictures, uint8 (P, S, H, W, 3)."""
    captions = tuple(str(i) for i in range(int(prompt_id.max()) + 1))
    shown = CaptionedMedia(media, prompt_id, captions).head(SHOWN_PER_PROMPT).media
    pixels = (shown.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    grid: NDArray[np.uint8] = pixels.reshape(len(captions), -1, *pixels.shape[1:]).numpy()
    return grid
