"""The reduced audit where training has diverged: the guard hears it, and no one else is blamed."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path

import pytest
import torch
from tests.cli.command import write_recipe

from ddrl.builders.training import Job, build_job
from ddrl.errors import GuardStop
from ddrl.recipe import load_recipe
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.loop import train
from ddrl.training.sinks import JSONLSink, read_metrics

DRIFT = ["evaluation.every=2"]
PANEL = [*DRIFT, "evaluation.panel_samples=20", "evaluation.steps=2"]


def make_job(folder: Path, factory: pytest.TempPathFactory, options: list[str]) -> Job:
    return build_job(load_recipe(write_recipe(folder, factory), options))


def spoil(job: Job, value: float) -> None:
    """Have the averaged weights alone be what an update that exploded leaves."""
    for average in job.trainer.ema.state_dict().values():
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


def test_samples_that_are_not_finite_are_the_guard_s(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path, tmp_path_factory, PANEL)
    decode = type(job.trainer.forward.model).decode

    def broken(*args: object, **kwargs: object) -> torch.Tensor:
        return decode(*args, **kwargs) * math.nan  # type: ignore[arg-type]

    monkeypatch.setattr(type(job.trainer.forward.model), "decode", broken)
    job.trainer.step = 2
    with pytest.raises(GuardStop, match="The audit's samples are not finite at step 2"):
        job.trainer.audit()
