"""The reduced audit where training has diverged: the guard hears it, and no one else is blamed."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.cli.command import write_recipe

from ddrl.errors import GuardStop, WeightsError
from ddrl.evaluation.measures import generate as generation
from ddrl.evaluation.measures.generate import SampleSet
from ddrl.jobs.evaluate.bench import Bench
from ddrl.jobs.train.trainer import Job, build_job
from ddrl.recipe import load_recipe
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.logs.sinks import JSONLSink, read_metrics
from ddrl.training.loop import train

DRIFT = ["evaluation.every=2"]
BUDGET = [*DRIFT, "objective.drift_budget=0.05", "objective.drift_budget_every=3"]
PANEL = [*DRIFT, "evaluation.panel_samples=20", "evaluation.steps=2"]


def make_job(folder: Path, factory: pytest.TempPathFactory, options: list[str]) -> Job:
    return build_job(load_recipe(write_recipe(folder, factory), options))


def spoil(job: Job, value: float) -> None:
    """Have the averaged weights alone be what an update that exploded leaves."""
    for average in job.trainer.learner.ema.state_dict().values():
        average.fill_(value)


@pytest.mark.parametrize("options", [DRIFT, PANEL])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_a_loss_that_is_not_finite_is_the_guard_s(
    value: float, options: list[str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    job, folder = make_job(tmp_path, tmp_path_factory, options), CheckpointFolder(tmp_path / "to")

    def explode(step: int, metrics: object) -> None:
        if step == 3:
            spoil(job, value)

    with (
        closing(JSONLSink(tmp_path / "metrics.jsonl")) as sink,
        pytest.raises(GuardStop, match=r"heldout_loss is (nan|inf) at step 4: .* diverged"),
    ):
        train(job.trainer, 6, sinks=[sink], checkpoints=folder, checkpoint_every=2, on_step=explode)
    kept = folder.latest()
    assert kept is not None
    assert kept.step == 2
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert "reward" in rows[3]
    assert "heldout_loss" not in rows[3]  # it is null in the file


@pytest.mark.parametrize(
    ("part", "error", "phrase"),
    [
        ("sampler", GuardStop, "The audit's samples are not finite at step 2"),
        ("decoder", WeightsError, "The decoder .TinyModel, float32. has made pixels"),
    ],
)
def test_samples_that_are_not_finite_are_the_policys_or_the_decoders(
    part: str,
    error: type[Exception],
    phrase: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = make_job(tmp_path, tmp_path_factory, PANEL)
    decoder = (type(job.trainer.forward.model), "decode")
    owner, name = decoder if part == "decoder" else (generation, "sample_ode")
    sound = getattr(owner, name)

    def broken(*args: object, **kwargs: object) -> torch.Tensor:
        found: torch.Tensor = sound(*args, **kwargs) * math.nan
        return found

    monkeypatch.setattr(owner, name, broken)
    job.trainer.step = 2
    with pytest.raises(error, match=phrase):
        job.trainer.audit()


def test_drift_is_a_share_of_the_base_s_loss(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """For the monitor, the panel and the budget alike."""
    job = make_job(tmp_path, tmp_path_factory, BUDGET)
    monitor, budget = job.trainer.watch.monitor, job.trainer.watch.budget
    assert monitor is not None
    assert budget is not None
    panel = make_job(tmp_path, tmp_path_factory, PANEL).trainer
    start = monitor(0).metrics
    assert start["heldout_loss_change"] == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for trainer in (job.trainer, panel):
            for weight in trainer.forward.model.transformer.parameters():
                weight.add_(0.1)
    moved = monitor(1).metrics
    expected = moved["heldout_loss"] / start["heldout_loss"] - 1
    assert abs(expected) > 0.01
    assert moved["heldout_loss_change"] == pytest.approx(expected)
    assert budget.correct()["budget_drift"] == pytest.approx(expected)
    assert [budget.is_due(step) for step in (1, 2, 3, 4)] == [False, False, True, False]
    assert panel.watch.monitor is not None
    found = panel.watch.monitor(1).metrics
    assert found["heldout_loss_change"] == pytest.approx(expected, rel=1e-4)


def test_the_panel_has_as_many_samples_as_the_recipe_says(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    sample = Bench.sample

    def counted(*args: Any, **kwargs: Any) -> tuple[SampleSet, ...]:
        made = sample(*args, **kwargs)
        asked.append(sum(len(one.media) for one in made))
        return made

    monkeypatch.setattr(Bench, "sample", counted)
    job = make_job(tmp_path, tmp_path_factory, [*PANEL, "evaluation.panel_samples=30"])
    assert asked == [30]
    monitor = job.trainer.watch.monitor
    assert monitor is not None
    shown = monitor(3).shown
    assert shown is not None
    # The first sample of the first prompts, from the same noise at every step.
    assert (shown.step, shown.source, len(shown.pictures)) == (3, "audit", 8)
    assert len(set(shown.prompts)) == 8
    again = monitor(4).shown
    assert again is not None
    assert np.array_equal(again.pictures, shown.pictures)
