"""An image model of diffusers on captioned files, through the command line."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.cli.command import ddrl, metrics_of
from tests.flow.diffusers_jobs import Job, image_size, weights
from tests.flow.test_stop_and_resume import assert_same, gated, interrupt
from tests.models.families.test_sd3 import build_pipeline

from ddrl.jobs.train.trainer import build_job
from ddrl.models.families.sd3 import SD3
from ddrl.models.lora.adapter import WithoutLoRA, has_lora
from ddrl.recipe import load_recipe
from ddrl.training.trainer import Trainer

FOUR = "run.steps=4"


def write_picture(stem: Path, index: int) -> None:
    noise = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    stem.parent.mkdir(exist_ok=True)
    Image.fromarray(noise).save(stem.with_suffix(".png"))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp("sd3")
    return Job.make(root, build_pipeline(root / "parts"), write_picture, side=16)


@pytest.fixture(scope="module")
def straight(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing stops, and the first to encode the data."""
    folder = tmp_path_factory.mktemp("straight")
    result = job.train(folder, *gated(folder, at=99), FOUR)
    assert "media 8 encoded, 0 reused" in result.stderr
    assert "LoRA of rank 4 on" in result.stderr
    return folder / "run"


def test_a_killed_run_is_made_up_for(job: Job, straight: Path, tmp_path: Path) -> None:
    recipe = job.recipe(tmp_path)
    killed = interrupt(recipe, signal.SIGKILL, at=4, go_on=False, more=[FOUR])
    assert killed.code == -signal.SIGKILL
    assert "media 0 encoded, 8 reused" in killed.stderr  # in a process and folder of its own
    resumed = ddrl("train", recipe, *gated(tmp_path, at=4), FOUR)
    assert resumed.code == 0, resumed.stderr
    assert "resuming after step 2" in resumed.stderr
    assert_same(tmp_path / "run", straight)
    lines = metrics_of(straight)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[1]["heldout_loss_change"] != 0
    saved = weights(straight, 2)
    assert all("lora_" in name for name in saved)
    assert any(not torch.equal(saved[name], weights(straight, 4)[name]) for name in saved)


def test_samples(straight: Path, tmp_path: Path) -> None:
    result = ddrl("sample", straight, "--num", "2", "--prompt", "a new text", "--out", tmp_path)
    assert result.code == 0, result.stderr
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [entry["file"] for entry in manifest["files"]] == [
        "000-a-new-text-0.png",
        "001-a-new-text-1.png",
    ]
    assert image_size(tmp_path / "000-a-new-text-0.png") == (16, 16)
    assert image_size(tmp_path / "grid.png") == (33, 16)


def test_evaluation(straight: Path) -> None:
    result = ddrl("evaluate", straight)
    assert result.code == 0, result.stderr
    report = json.loads((straight / "evaluation" / "report.json").read_text())
    assert list(report["runs"]) == ["base", "run"]
    for run in report["runs"].values():
        assert run["judge_accuracy"] is None
        for name in ("reward", "frechet", "diversity", "heldout_loss_change"):
            assert run[name] is not None, name
    assert (straight / "evaluation" / "report.html").stat().st_size > 10_000


def built(job: Job, folder: Path, *overrides: str) -> Trainer:
    """A trainer with two sampler steps."""
    small = ["rollout.steps=2", *overrides]
    return build_job(load_recipe(job.recipe(folder), small)).trainer


def trained(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Do two iterations; return how the weights have changed."""
    network = trainer.forward.model.transformer
    parameters = {n: p for n, p in network.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in parameters.items()}
    for _ in range(2):
        assert all(np.isfinite(value) for value in trainer.iteration().values())
    change = {n: p.detach() - before[n] for n, p in parameters.items()}
    assert all(p.dtype == torch.float32 for p in parameters.values())
    assert any(bool(value.any()) for value in change.values())
    return change


FULL = ("model.lora.rank=0", "optimizer.learning_rate=1e-4")
HALF = ("run.precision=bfloat16", "model.dtype=bfloat16", "guard.replay_tolerance=0.05")


@pytest.mark.parametrize(
    "overrides",
    [
        FULL,
        ("objective.advantage=tilt", "data.heldout=0.1"),
        ("rollout.guidance=2.0",),
        HALF,
        (*FULL, *HALF),
    ],
    ids=["full", "tilt", "guidance", "bfloat16", "full-bfloat16"],
)
def test_it_trains(job: Job, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    trained(built(job, tmp_path, *overrides))


def test_the_reference_is_the_model_without_its_adapter(job: Job, tmp_path: Path) -> None:
    trainer = built(job, tmp_path, "objective.regularizer=reference")
    assert trainer.learner.reference is not None
    assert isinstance(trainer.learner.reference.model, WithoutLoRA)
    assert trainer.learner.reference.model.transformer is trainer.forward.model.transformer
    assert has_lora(trainer.forward.model.transformer)
    trained(trainer)


def test_the_reference_of_all_weights_is_a_copy_of_the_network_alone(
    job: Job, tmp_path: Path
) -> None:
    trainer = built(job, tmp_path, "objective.regularizer=reference", *FULL)
    assert trainer.learner.reference is not None
    frozen, model = trainer.learner.reference.model, trainer.forward.model
    assert isinstance(frozen, SD3)
    assert isinstance(model, SD3)
    assert frozen.transformer is not model.transformer
    assert frozen.vae is model.vae
    kept = {n: p.detach().clone() for n, p in frozen.transformer.named_parameters()}
    trained(trainer)
    assert all(torch.equal(p, kept[n]) for n, p in frozen.transformer.named_parameters())


@pytest.mark.parametrize("more", [(), FULL], ids=["lora", "full"])
def test_checkpointing_of_gradients_changes_nothing(
    job: Job, tmp_path: Path, more: tuple[str, ...]
) -> None:
    plain = trained(built(job, tmp_path, *more))
    again = trained(built(job, tmp_path, *more, "model.gradient_checkpointing=true"))
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=1e-5)
