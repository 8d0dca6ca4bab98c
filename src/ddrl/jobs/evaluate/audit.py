"""Runs to a hacking audit: the same prompts, seeds and held-out data for the base and each run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ddrl.builders.device import configured
from ddrl.builders.verify import same_places
from ddrl.errors import DataError, UsageError
from ddrl.evaluation.findings.audit import Report
from ddrl.evaluation.findings.regressions import worst_prompts
from ddrl.evaluation.measures.fidelity import frechet_distance
from ddrl.evaluation.measures.mixed import first_samples, on_one_canvas
from ddrl.evaluation.measures.result import RunResult
from ddrl.evaluation.pages.page import write_report
from ddrl.evaluation.pages.tiles import clip_grid, still_grid
from ddrl.jobs.evaluate.bench import Bench, build_bench
from ddrl.jobs.evaluate.measure import Found, measure_model
from ddrl.recipe import difference
from ddrl.runs.describe import (
    curves,
    distinct_labels,
    environment,
    label,
    method,
    reproduce,
)
from ddrl.runs.loaded import LoadedRun, Step, load_run
from ddrl.runs.provenance import describe_result

logger = logging.getLogger(__name__)

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
    *("data.sizes:", "data.given_frames:", "data.source_images:"),
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
    overrides: Sequence[str] = (),
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Measure runs and the base that they share.

    Args:
        folders: of runs, at least one.
        step: of the checkpoints, or ``best``; default: the newest of each.
        overrides: of all runs, as :func:`~ddrl.runs.loaded.load_run` takes them.
        progress: told what is being measured.

    Raises:
        DataError: the runs can't be compared.
        UsageError: a folder is no run, or is named twice.
        CheckpointError: a run has no whole checkpoint.
    """
    runs = _load(folders, step, overrides)
    with configured(runs[0].recipe):
        return _measured(runs, folders, overrides, progress)


def _measured(
    runs: Sequence[LoadedRun],
    folders: Sequence[Path],
    overrides: Sequence[str],
    progress: Callable[[str], None] | None,
) -> Report:
    first, names = runs[0], _unique_names(runs)
    for each in runs:
        each.check_data(first.corpus.rows)
    bench = build_bench(first.task, first.corpus, first.scorer, first.device)
    shown = min(MAX_SHOWN, first.recipe.evaluation.samples_per_prompt)
    results: list[RunResult] = []
    grids, clips = dict[str, NDArray[np.uint8]](), dict[str, NDArray[np.uint8]]()
    base: Found | None = None
    for name, run in [("base", None), *zip(names, runs, strict=True)]:
        if progress is not None:
            progress(f"evaluating {name}")
        with first.as_base() if run is None else nullcontext():
            forward = (run or first).forward
            samples = bench.sample(forward, first.latent_shapes)
            losses = bench.meter.losses(forward, first.corpus.heldout.condition).double().numpy()
        found = Found(losses, bench.values(samples))
        base = base or found
        result = measure_model(bench, found, base, name=name, is_base=run is None)
        results.append(result if run is None else _described(result, run, found, base))
        few = first_samples(samples, shown)
        grids[name] = still_grid(few.media, few.prompts.prompt_id, shown)
        if few.media.ndim == 5:
            clips[name] = clip_grid(few.media, few.prompts.prompt_id, shown)
    return Report(
        title="Did the reward get hacked?",
        created=datetime.now(UTC).strftime("%Y-%m-%d"),
        prompts=bench.prompts,
        runs=tuple(distinct_labels(results)),
        samples=grids,
        clips=clips,
        real=_real_grid(bench, shown),
        has_real=not first.task.samples_base,
        real_frechet=_real_frechet(bench, first),
        drift_limit=bench.recipe.evaluation.drift_limit,
        encoder=bench.encoder.name,
        **_origin(folders, runs, bench, overrides),
    )


def evaluate(
    runs: Sequence[Path | str],
    *,
    out: Path | str | None = None,
    step: Step | None = None,
    overrides: Sequence[str] = (),
) -> Report:
    """Measure runs beside the base they start from, and judge whether the reward was hacked.

    What ``ddrl evaluate`` does.

    Args:
        runs: folders of runs, at least one.
        out: where ``report.html`` and ``report.json`` go; None: ``evaluation/`` in the first run.
        step: of the checkpoints, or ``"best"``; None: the newest of each.
        overrides: ``section.key=value``: where things lie, and how they are computed and measured.

    Returns:
        What was measured; ``report.verdicts()`` says what it means.

    Raises:
        DataError: the runs can't be compared, or the report can't be written.
        UsageError: a folder is no run, or is named twice.
        CheckpointError: a run has no whole checkpoint.

    Example:
        >>> import ddrl
        >>> ddrl.evaluate(["runs/digits"]).verdicts()["digits"].status  # doctest: +SKIP
        'clean'
    """
    folders = [Path(run) for run in runs]
    if not folders:
        raise UsageError("There is no run to evaluate.", hint="name the folder of a run")
    report = evaluate_runs(folders, step=step, overrides=overrides, progress=logger.info)
    write_report(report, report_folder(folders, out))
    return report


def report_folder(runs: Sequence[Path], out: Path | str | None) -> Path:
    """Return where the report of some runs goes."""
    return runs[0] / "evaluation" if out is None else Path(out)


def _origin(
    folders: Sequence[Path], runs: Sequence[LoadedRun], bench: Bench, overrides: Sequence[str]
) -> dict[str, Any]:
    """Where a report is from: in words, as commands, and as values."""
    again = reproduce(folders, runs, overrides)
    made = describe_result(
        again.splitlines()[-1],
        runs=[run.folder for run in runs],
        seeds=[run.recipe.run.seed for run in runs],
    )
    facts = {**environment(runs, made), "Encoder": bench.encoder.name}
    return {"environment": facts, "reproduce": again, "provenance": made}


def _load(folders: Sequence[Path], step: Step | None, overrides: Sequence[str]) -> list[LoadedRun]:
    twice = [folder for folder in folders if folders.count(folder) > 1]
    if twice:
        raise UsageError(f"Run {twice[0]} is named twice.", hint="name each run once")
    runs: list[LoadedRun] = []
    for folder in folders:
        device = runs[0].device if runs else None
        runs.append(
            load_run(folder, step=step, needs_base=True, overrides=overrides, device=device)
        )
    _check_comparable(runs)
    return runs


def _check_comparable(runs: Sequence[LoadedRun]) -> None:
    first = runs[0]
    for run in runs[1:]:
        ignore = (*NOT_COMPARED, *same_places(first.checkpoint, run.checkpoint))
        differences = [
            line
            for line in difference(first.recipe, run.recipe, ignore=ignore)
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


def _described(result: RunResult, run: LoadedRun, found: Found, base: Found) -> RunResult:
    """A run's figures with what it is, and the prompts that lost most."""
    mine, before = found.values, base.values
    return replace(
        result,
        label=label(run.recipe),
        regressions=worst_prompts(
            mine.prompt_id,
            (before.reward, mine.reward),
            {key: (before.measures[key], mine.measures[key]) for key in mine.measures},
        ),
        method=method(run.recipe),
        num_steps=run.step,
        seconds=sum(row.get("seconds", 0.0) for row in run.metrics),
        curves=curves(run.metrics),
    )


def _real_frechet(bench: Bench, run: LoadedRun) -> float | None:
    """Between two sets of real images that the judge has not been trained on."""
    media = run.task.other_real()
    if media is None:
        return None
    return frechet_distance(bench.encoder.features(media), bench.real.features)


def _real_grid(bench: Bench, shown: int) -> NDArray[np.uint8] | None:
    """Real data for the sampled prompts, as many of each as all of them have."""
    real, prompts = bench.corpus.real, len(bench.prompts)
    counts = torch.bincount(real.caption_id, minlength=prompts)[:prompts]
    num = min(shown, int(counts.min()))
    # No others are decoded.
    rows = torch.cat([(real.caption_id == i).nonzero().flatten()[:num] for i in range(prompts)])
    if real.size_id is None:
        media = real.media[rows]
    else:
        media = on_one_canvas([real.media[rows[i : i + 1]] for i in range(len(rows))])
    return still_grid(media, real.caption_id[rows], num)
