"""Pictures of several sizes, from the check of the data to the exported card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.command import ddrl, metrics_of
from tests.flow.diffusers_jobs import Job, image_size
from tests.flow.test_stop_and_resume import assert_same
from tests.models.families.test_sd3 import build_pipeline

NAMES = ("16x16", "32x16", "16x32")  # width x height
SIZES = (
    *("data.height=512", "data.width=512"),  # as they are where nobody writes them
    f"data.sizes={','.join(NAMES)}",
    "evaluation.panel_samples=4",
)


def write_picture(stem: Path, index: int) -> None:
    """Square, wide and tall pictures in turn."""
    sides = ((32, 32), (20, 36), (36, 20))[index % 3]
    noise = np.random.default_rng(index).integers(0, 256, (*sides, 3), dtype=np.uint8)
    stem.parent.mkdir(exist_ok=True)
    Image.fromarray(noise).save(stem.with_suffix(".png"))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp("sizes")
    pipeline = build_pipeline(root / "parts")
    pipeline.scheduler.register_to_config(use_dynamic_shifting=True)
    return Job.make(root, pipeline, write_picture, side=16)


@pytest.fixture(scope="module")
def run(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    result = job.train(folder, *SIZES, "run.steps=4")
    assert "samples by size: 16x16 3, 32x16 3, 16x32 2" in result.stderr
    return folder / "run"


def test_a_resumed_run_ends_as_the_straight_one(job: Job, run: Path, tmp_path: Path) -> None:
    assert len({row["size"] for row in metrics_of(run) if "size" in row}) > 1
    job.train(tmp_path, *SIZES, "run.steps=2")
    again = job.train(tmp_path, *SIZES, "run.steps=4")
    assert "resuming after step 2" in again.stderr
    assert_same(tmp_path / "run", run)
    other = ddrl("train", job.recipe(tmp_path), *SIZES, "run.steps=4", "data.sizes=16x16,32x16")
    assert other.code == 5
    assert "data.sizes" in other.stderr


def test_samples_have_the_first_size_or_the_one_that_is_asked_for(
    run: Path, tmp_path: Path
) -> None:
    arguments = ("sample", run, "--num", "2", "--prompt", "a new text", "--out", tmp_path)
    first = ddrl(*arguments)
    assert first.code == 0, first.stderr
    assert "of the size 16x16; --size takes others, such as 32x16, 16x32" in first.stdout
    assert image_size(tmp_path / "000-a-new-text-0.png") == (16, 16)
    other = ddrl(*arguments, "--size", "48x16")  # also one that nothing was trained at
    assert other.code == 0, other.stderr
    assert "--size" not in other.stdout
    assert image_size(tmp_path / "000-a-new-text-0.png") == (48, 16)
    assert json.loads((tmp_path / "manifest.json").read_text())["size"] == "48x16"
    odd = ddrl(*arguments, "--size", "33x16")
    assert (odd.code, "hint: the nearest is 32x16" in odd.stderr) == (3, True)


def test_a_report_has_pictures_of_all_sizes_on_one_canvas(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    result = ddrl("evaluate", run, "--out", out)
    assert result.code == 0, result.stderr
    page = (out / "report.html").read_text()
    assert "16x16, 32x16, 16x32: each prompt" in page


def test_a_card_says_the_sizes_and_their_shifts(run: Path, tmp_path: Path) -> None:
    result = ddrl("export", run, "--out", tmp_path)
    assert result.code == 0, result.stderr
    card = (tmp_path / "README.md").read_text()
    assert "# Trained at 16x16, 32x16, 16x32 pixels." in card
    assert "height=16,\n    width=16,\n" in card
    first = card.split("pipeline.scheduler = Sampler(shift=")[1].split(")")[0]
    others = [line for line in card.splitlines() if line.startswith("# At ")]
    assert [line.split()[2] for line in others] == ["32x16", "16x32"]
    assert all(f"shift={first})" not in line for line in others)


def test_the_data_is_checked_against_sizes(job: Job) -> None:
    sizes = [part for name in (*NAMES, "64x16") for part in ("--size", name)]
    result = ddrl("data", "check", job.root / "data", *sizes)
    assert result.code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "buckets       3 of 16x16; 3 of 32x16; 2 of 16x32; 0 of 64x16" in lines
    assert "  unused      no sample has the size 64x16" in lines
    wrong = ddrl("data", "check", job.root / "data", "--size", "16*16")
    assert (wrong.code, "--size 16*16 is no size" in wrong.stderr) == (2, True)


def test_samples_of_the_base_have_one_size(job: Job, tmp_path: Path) -> None:
    recipe = job.recipe(tmp_path)
    result = ddrl("data", "synthesize", recipe, *SIZES, "--out", tmp_path / "made")
    assert result.code == 3
    assert "Samples of the base have one size" in result.stderr
    assert "hint: name one of them: data.sizes=16x16" in result.stderr
