"""Runs to a hacking audit: the same prompts, seeds and held-out data for the base and each run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddrl.builders.assets import build_judge, limit_threads
from ddrl.builders.corpus import Corpus
from ddrl.builders.describe import (
    curves,
    distinct_labels,
    environment,
    label,
    method,
    reproduce,
)
from ddrl.builders.features import judge_features, pooled_pixels
from ddrl.builders.runs import LoadedRun, load_run
from ddrl.builders.training import build_drift
from ddrl.data.sources import CaptionedMedia
from ddrl.errors import DataError, UsageError
from ddrl.evaluation.audit import Report
from ddrl.evaluation.diversity import group_diversity
from ddrl.evaluation.drift import DriftMeter
from ddrl.evaluation.fidelity import frechet_distance
from ddrl.evaluation.generate import SampleSet, generate
from ddrl.evaluation.statistics import Interval, bootstrap_interval
from ddrl.evaluation.verdict import Curves, RunResult
from ddrl.recipe import Recipe, difference
from ddrl.rewards.builtin.classifier import Classifier
from ddrl.rewards.scorer import Scorer
from ddrl.training.forward import Forward

__all__ = ["evaluate_runs"]

MAX_SHOWN = 8  # samples per prompt in the report's grids
NUM_RESAMPLES = 300  # each Fréchet distance costs an eigendecomposition

# Runs can stand in one table if these agree: the base, the held-out data, and what is measured.
COMPARED = (
    *("model.*", "reward.*", "evaluation.*"),
    *(f"data.{key}:" for key in ("source", "path", "height", "width", "frames", "fps", "heldout")),
    # The base is sampled as the runs are: else guidance would pass for training.
    *("rollout.guidance", "run.precision"),
)


@dataclass(frozen=True)
class _Bench:
    """What every model of a report is measured with.

    Attributes:
        recipe: of the first run.
        corpus: the data.
        scorer: the rewards.
        judge: of the embedded data; None elsewhere.
        features: pixels to features, shape (N, F).
        real_features: of the held-out data.
        base_losses: the base's diffusion loss on every held-out sample.
        meter: measures it.
        shown: samples per prompt in the grids.
    """

    recipe: Recipe
    corpus: Corpus
    scorer: Scorer
    judge: Classifier | None
    features: Callable[[Tensor], NDArray[np.float64]]
    real_features: NDArray[np.float64]
    base_losses: Tensor
    meter: DriftMeter
    shown: int


def evaluate_runs(
    folders: Sequence[Path], *, progress: Callable[[str], None] | None = None
) -> Report:
    """Measure runs and the base that they share.

    Args:
        folders: of runs, at least one.
        progress: told what is being measured.

    Raises:
        DataError: the runs can't be compared.
        UsageError: a folder is no run, or is named twice.
        CheckpointError: a run has no whole checkpoint.
    """
    twice = [folder for folder in folders if folders.count(folder) > 1]
    if twice:
        raise UsageError(f"Run {twice[0]} is named twice.")
    runs = [load_run(folder) for folder in folders]
    _check_comparable(runs)
    limit_threads(runs[0].recipe)
    first, names = runs[0], _unique_names(runs)
    with first.as_base():
        bench = _build_bench(first)
    results: list[RunResult] = []
    grids: dict[str, NDArray[np.uint8]] = {}
    for name, run in [("base", None), *zip(names, runs, strict=True)]:
        if progress is not None:
            progress(f"evaluating {name}")
        with first.as_base() if run is None else nullcontext():
            samples = _generate(bench, run or first)
            results.append(_measure(bench, name, run, (run or first).forward, samples))
        grids[name] = _grid(samples.media, samples.prompts.prompt_id, bench.shown)
    return Report(
        title="Did the reward get hacked?",
        created=datetime.now(UTC).strftime("%Y-%m-%d"),
        prompts=_prompts(bench),
        runs=tuple(distinct_labels(results)),
        samples=grids,
        real=_real_grid(bench),
        real_frechet=_real_frechet(bench, first),
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
    """The bench, made while the run's model is the base."""
    recipe, corpus = run.recipe, run.corpus
    judge = None if run.splits is None else build_judge(recipe, run.splits)
    features = pooled_pixels if judge is None else judge_features(judge)
    meter = build_drift(recipe, corpus.heldout, run.device)
    return _Bench(
        recipe=recipe,
        corpus=corpus,
        scorer=run.scorer,
        judge=judge,
        features=features,
        real_features=features(corpus.real.media),
        base_losses=meter.losses(run.forward, corpus.heldout.condition),
        meter=meter,
        shown=min(MAX_SHOWN, recipe.evaluation.samples_per_prompt),
    )


def _prompts(bench: _Bench) -> tuple[str, ...]:
    """The held-out prompts that are sampled."""
    return bench.corpus.heldout.captions[: bench.recipe.evaluation.prompts]


def _generate(bench: _Bench, run: LoadedRun) -> SampleSet:
    section = bench.recipe.evaluation
    return generate(
        run.forward,
        _prompts(bench),
        samples_per_prompt=section.samples_per_prompt,
        latent_shape=run.latent_shape,
        seed=section.seed,
        num_steps=section.steps,
        solver=section.solver,
        micro_batch=bench.recipe.run.micro_batch,
        device=run.device,
    )


def _measure(
    bench: _Bench, name: str, run: LoadedRun | None, forward: Forward, samples: SampleSet
) -> RunResult:
    seed = bench.recipe.evaluation.seed
    prompt_id = samples.prompts.prompt_id
    scores = bench.scorer.score(samples.media, samples.prompts, prompt_id)
    rewards = scores.combined[scores.valid].double().numpy()
    features = bench.features(samples.media)

    def frechet(rows: NDArray[np.float64]) -> float:
        if len(bench.real_features) < 2:
            return math.nan
        return frechet_distance(rows, bench.real_features)

    return RunResult(
        name=name,
        label="Base model" if run is None else label(run.recipe),
        reward=bootstrap_interval(rewards, seed=seed),
        judge_accuracy=_judge_accuracy(bench, samples),
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


def _judge_accuracy(bench: _Bench, samples: SampleSet) -> Interval:
    """Share of the samples that the judge takes for what was asked; NaN where there is no judge."""
    if bench.judge is None:
        return Interval.exact(math.nan)
    right = bench.judge.log_prob(samples.media).argmax(1) == samples.prompts.prompt_id
    return bootstrap_interval(right.double().numpy(), seed=bench.recipe.evaluation.seed)


def _diversity(
    bench: _Bench, features: NDArray[np.float64], prompt_id: NDArray[np.int64]
) -> Interval:
    """Diversity as a ratio to the held-out data; the interval is over prompts.

    Within prompts where every one has several real samples, else over all of them together; NaN
    where the held-out data has no variety.
    """
    if not np.ptp(bench.real_features, axis=0).any():
        return Interval.exact(math.nan)
    real_id = bench.corpus.real.caption_id.numpy()
    counts = np.bincount(real_id, minlength=len(bench.corpus.heldout.captions))
    if counts.min() < 2 or len(_prompts(bench)) < len(counts):
        prompt_id, real_id = np.zeros_like(prompt_id), np.zeros_like(real_id)
    _, generated = group_diversity(features, prompt_id)
    _, real = group_diversity(bench.real_features, real_id)
    pairs = np.stack([generated, real], axis=1)

    def ratio(rows: NDArray[np.float64]) -> float:
        varied, wanted = rows.mean(axis=0)
        return float(varied / wanted) if wanted else math.nan

    return bootstrap_interval(pairs, ratio, seed=bench.recipe.evaluation.seed)


def _drift(bench: _Bench, forward: Forward) -> Interval:
    """Change of the held-out loss; the interval pairs each image with itself at the base."""
    losses = bench.meter.losses(forward, bench.corpus.heldout.condition)
    pairs = torch.stack([losses, bench.base_losses], dim=1).double().numpy()

    def change(rows: NDArray[np.float64]) -> float:
        return float(rows[:, 0].mean() / rows[:, 1].mean() - 1)

    return bootstrap_interval(pairs, change, seed=bench.recipe.evaluation.seed)


def _real_frechet(bench: _Bench, run: LoadedRun) -> float | None:
    """Between two sets of real images that the judge has not been trained on."""
    if run.splits is None:
        return None
    return frechet_distance(bench.features(run.splits.reward.media), bench.real_features)


def _real_grid(bench: _Bench) -> NDArray[np.uint8] | None:
    """Real data for the sampled prompts, as many of each as all of them have."""
    real, prompts = bench.corpus.real, len(_prompts(bench))
    counts = torch.bincount(real.caption_id, minlength=prompts)[:prompts]
    rows = real.caption_id < prompts
    return _grid(real.media[rows], real.caption_id[rows], min(bench.shown, int(counts.min())))


def _grid(media: Tensor, prompt_id: Tensor, shown: int) -> NDArray[np.uint8]:
    """The first samples of every prompt as pictures, uint8 (P, S, H, W, 3); of clips a frame."""
    captions = tuple(str(i) for i in range(int(prompt_id.max()) + 1))
    pictures = CaptionedMedia(media, prompt_id, captions).head(shown).media
    if pictures.ndim == 5:
        pictures = pictures[:, pictures.shape[1] // 2]
    pixels = (pictures.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    grid: NDArray[np.uint8] = pixels.reshape(len(captions), -1, *pixels.shape[1:]).numpy()
    return grid
