"""Runs to a hacking audit: the same prompts, seeds and held-out data for the base and each run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ddrl.builders.assets import limit_threads
from ddrl.builders.bench import Bench, Values, build_bench
from ddrl.builders.describe import (
    curves,
    distinct_labels,
    environment,
    label,
    method,
    reproduce,
)
from ddrl.builders.measure import (
    drift_interval,
    frechet_interval,
    measured,
    motion_figures,
    pixel_shifts,
    reward_figures,
    variety_figures,
)
from ddrl.builders.runs import LoadedRun, Step, load_run
from ddrl.errors import DataError, UsageError
from ddrl.evaluation.audit import Report
from ddrl.evaluation.fidelity import frechet_distance
from ddrl.evaluation.regressions import worst_prompts
from ddrl.evaluation.result import Curves, RunResult
from ddrl.evaluation.tiles import clip_grid, still_grid
from ddrl.recipe import difference

__all__ = ["evaluate_runs"]

MAX_SHOWN = 8  # samples per prompt in the report's grids

# Runs can stand in one table if these agree: the base, the held-out data, and what is measured.
COMPARED = (
    *("model.*", "reward.*", "evaluation.reward.*"),
    *(
        f"evaluation.{key}:"
        for key in ("prompts", "samples_per_prompt", "steps", "solver", "drift_limit", "seed")
    ),
    "evaluation.encoder:",
    *(f"data.{key}:" for key in ("source", "path", "height", "width", "frames", "fps", "heldout")),
    "data.given_frames:",
    # The base is sampled as the runs are: else guidance would pass for training.
    *("rollout.guidance", "run.precision"),
)

# How a reward is called changes none of its numbers.
NOT_COMPARED = tuple(
    f"{rewards}.{key}"
    for rewards in ("reward", "evaluation.reward")
    for key in ("timeout", "retries", "samples_per_call", "cache")
)


def evaluate_runs(
    folders: Sequence[Path],
    *,
    step: Step | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Measure runs and the base that they share.

    Args:
        folders: of runs, at least one.
        step: of the checkpoints, or ``best``; default: the newest of each.
        progress: told what is being measured.

    Raises:
        DataError: the runs can't be compared.
        UsageError: a folder is no run, or is named twice.
        CheckpointError: a run has no whole checkpoint.
    """
    twice = [folder for folder in folders if folders.count(folder) > 1]
    if twice:
        raise UsageError(f"Run {twice[0]} is named twice.")
    runs = [load_run(folder, step=step) for folder in folders]
    _check_comparable(runs)
    limit_threads(runs[0].recipe)
    first, names = runs[0], _unique_names(runs)
    bench = build_bench(first.recipe, first.corpus, first.scorer, first.splits, first.device)
    shown = min(MAX_SHOWN, first.recipe.evaluation.samples_per_prompt)
    results: list[RunResult] = []
    grids: dict[str, NDArray[np.uint8]] = {}
    clips: dict[str, NDArray[np.uint8]] = {}
    base: tuple[NDArray[np.float64], Values] | None = None
    for name, run in [("base", None), *zip(names, runs, strict=True)]:
        if progress is not None:
            progress(f"evaluating {name}")
        with first.as_base() if run is None else nullcontext():
            forward = (run or first).forward
            samples = bench.sample(forward, first.latent_shape)
            losses = bench.meter.losses(forward, first.corpus.heldout.condition).double().numpy()
        values, prompt_id = bench.values(samples), samples.prompts.prompt_id
        base = base or (losses, values)
        results.append(_measure(bench, name, run, (losses, base[0]), (values, base[1])))
        grids[name] = still_grid(samples.media, prompt_id, shown)
        if samples.media.ndim == 5:
            clips[name] = clip_grid(samples.media, prompt_id, shown)
    return Report(
        title="Did the reward get hacked?",
        created=datetime.now(UTC).strftime("%Y-%m-%d"),
        prompts=bench.prompts,
        runs=tuple(distinct_labels(results)),
        samples=grids,
        clips=clips,
        real=_real_grid(bench, shown),
        has_real=first.recipe.data.source != "prompts",
        real_frechet=_real_frechet(bench, first),
        drift_limit=bench.recipe.evaluation.drift_limit,
        encoder=bench.encoder.name,
        environment={**environment(runs), "Encoder": bench.encoder.name},
        reproduce=reproduce(folders, runs),
    )


def _check_comparable(runs: Sequence[LoadedRun]) -> None:
    first = runs[0]
    for run in runs[1:]:
        differences = [
            line
            for line in difference(first.recipe, run.recipe, ignore=NOT_COMPARED)
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


def _measure(
    bench: Bench,
    name: str,
    run: LoadedRun | None,
    losses: tuple[NDArray[np.float64], NDArray[np.float64]],
    values: tuple[Values, Values],
) -> RunResult:
    """The row of a run, or of the base (None); pairs are of the run and of the base."""
    mine, base = values
    reward, reward_change = reward_figures(bench, mine, base)
    variety, motion = variety_figures(bench, mine, base), motion_figures(bench, mine, base)
    worst = worst_prompts(
        mine.prompt_id,
        (base.reward, mine.reward),
        {key: (base.measures[key], mine.measures[key]) for key in mine.measures},
    )
    return RunResult(
        name=name,
        label="Base model" if run is None else label(run.recipe),
        reward=reward,
        reward_change=reward_change,
        frechet=frechet_interval(
            mine.features, bench.real.features, mine.prompt_id, unit=bench.unit
        ),
        diversity=variety.diversity,
        diversity_change=variety.diversity_change,
        vendi=variety.vendi,
        vendi_change=variety.vendi_change,
        heldout_loss_change=drift_interval(
            *losses, bench.corpus.heldout.caption_id.numpy(), unit=bench.drift_unit
        ),
        measures=measured(bench, mine, base),
        pixels=pixel_shifts(bench, mine, base),
        temporal_frechet=motion.frechet,
        temporal_change=motion.change,
        temporal_consistency=motion.consistency,
        motion_moved=motion.moved,
        regressions=() if run is None else worst,
        is_base=run is None,
        method="Flow matching, before post-training" if run is None else method(run.recipe),
        num_steps=0 if run is None else run.step,
        seconds=0.0 if run is None else sum(line["seconds"] for line in run.metrics),
        curves=Curves() if run is None else curves(run.metrics),
    )


def _real_frechet(bench: Bench, run: LoadedRun) -> float | None:
    """Between two sets of real images that the judge has not been trained on."""
    if run.splits is None:
        return None
    media = run.splits.reward.media
    return frechet_distance(bench.encoder.features(media), bench.real.features)


def _real_grid(bench: Bench, shown: int) -> NDArray[np.uint8] | None:
    """Real data for the sampled prompts, as many of each as all of them have."""
    real, prompts = bench.corpus.real, len(bench.prompts)
    counts = torch.bincount(real.caption_id, minlength=prompts)[:prompts]
    num = min(shown, int(counts.min()))
    # No others are decoded.
    rows = torch.cat([(real.caption_id == i).nonzero().flatten()[:num] for i in range(prompts)])
    return still_grid(real.media[rows], real.caption_id[rows], num)
