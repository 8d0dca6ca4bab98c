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
from tests.flow.diffusers_jobs import Job, weights
from tests.flow.test_stop_and_resume import assert_same, gated, interrupt
from tests.models.families.test_sd3 import build_pipeline

from ddrl.builders.training import build_job
from ddrl.models.lora import WithoutLoRA, has_lora
from ddrl.recipe import load_recipe


def write_picture(stem: Path, index: int) -> None:
    noise = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    stem.parent.mkdir(exist_ok=True)
    Image.fromarray(noise).save(stem.with_suffix(".png"))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp("sd3")
    return Job.make(root, build_pipeline(root / "parts"), write_picture, side=32)


@pytest.fixture(scope="module")
def straight(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing stops, and the first to encode the data."""
    folder = tmp_path_factory.mktemp("straight")
    result = job.train(folder, *gated(folder, at=99))
    assert "media 8 encoded, 0 reused" in result.stderr
    assert "LoRA of rank 4 on" in result.stderr
    return folder / "run"


def test_a_killed_run_is_made_up_for(job: Job, straight: Path, tmp_path: Path) -> None:
    recipe = job.recipe(tmp_path)
    killed = interrupt(recipe, signal.SIGKILL, at=4, go_on=False)
    assert killed.code == -signal.SIGKILL
    assert "media 0 encoded, 8 reused" in killed.stderr  # in a process and folder of its own
    resumed = ddrl("train", recipe, *gated(tmp_path, at=4))
    assert resumed.code == 0, resumed.stderr
    assert "resuming after step 2" in resumed.stderr
    assert_same(tmp_path / "run", straight)
    lines = metrics_of(straight)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[1]["heldout_loss_change"] != 0
    saved = weights(straight)
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
    assert Image.open(tmp_path / "000-a-new-text-0.png").size == (32, 32)
    assert Image.open(tmp_path / "grid.png").size == (65, 32)


def test_evaluation(straight: Path) -> None:
    result = ddrl("evaluate", straight)
    assert result.code == 0, result.stderr
    report = json.loads((straight / "evaluation" / "report.json").read_text())
    assert [run["name"] for run in report["runs"]] == ["base", "run"]
    for run in report["runs"]:
        assert run["judge_accuracy"]["value"] is None
        for name in ("reward", "frechet", "diversity", "heldout_loss_change"):
            assert run[name]["value"] is not None, name
    assert (straight / "evaluation" / "report.html").stat().st_size > 10_000
