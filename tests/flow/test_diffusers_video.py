"""A video model of diffusers on captioned clips, through the command line."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import av
import pytest
from tests.cli.command import ddrl, metrics_of
from tests.data.making import write_image, write_video
from tests.flow.diffusers_jobs import Job, image_size
from tests.flow.test_stop_and_resume import assert_same, gated, interrupt
from tests.models.families.wan import wan_parts

FOUR = "run.steps=4"


def write_clip(stem: Path, index: int) -> None:
    write_video(stem.with_suffix(".mp4"), frames=5 + index, width=16, height=16)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    pipeline = wan_parts.text_pipeline()
    return Job.make(tmp_path_factory.mktemp("wan"), pipeline, write_clip, side=16, frames=5)


@pytest.fixture(scope="module")
def straight(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing stops, and the first to encode the data."""
    folder = tmp_path_factory.mktemp("straight")
    result = job.train(folder, *gated(folder, at=99), FOUR)
    assert "media 8 encoded, 0 reused" in result.stderr
    return folder / "run"


def test_a_killed_run_is_made_up_for(job: Job, straight: Path, tmp_path: Path) -> None:
    recipe = job.recipe(tmp_path)
    killed = interrupt(recipe, signal.SIGKILL, at=4, go_on=False, more=[FOUR])
    assert killed.code == -signal.SIGKILL
    resumed = ddrl("train", recipe, *gated(tmp_path, at=4), FOUR)
    assert resumed.code == 0, resumed.stderr
    assert "resuming after step 2" in resumed.stderr
    assert_same(tmp_path / "run", straight)


def test_samples_are_clips(straight: Path, tmp_path: Path) -> None:
    result = ddrl("sample", straight, "--num", "2", "--prompt", "a clip", "--out", tmp_path)
    assert result.code == 0, result.stderr
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    names = [entry["file"] for entry in manifest["files"]]
    assert names == ["000-a-clip-0.mp4", "001-a-clip-1.mp4"]
    with av.open(str(tmp_path / names[0])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(16, 16, 3)] * 5
    assert image_size(tmp_path / "grid.png") == (33, 16)


def test_evaluation(straight: Path) -> None:
    result = ddrl("evaluate", straight)
    assert result.code == 0, result.stderr
    report = json.loads((straight / "evaluation" / "report.json").read_text())
    assert list(report["runs"]) == ["base", "run"]
    for run in report["runs"].values():
        assert run["heldout_loss_change"] is not None
        assert run["frechet"] is not None
        assert run["diversity"] is None  # the first frames of these clips are all the same


def test_a_single_held_out_clip(job: Job, tmp_path: Path) -> None:
    job.train(tmp_path, "data.heldout=0.1", "run.steps=1")
    result = ddrl("evaluate", tmp_path / "run", "--json")
    assert result.code == 0, result.stderr
    for run in json.loads(result.stdout)["runs"].values():
        assert run["heldout_loss_change"] is not None
        assert run["frechet"] is None


def test_a_first_stage_on_pictures(job: Job, tmp_path: Path) -> None:
    """A clip model trains on pictures, is measured by them, and its samples are pictures."""
    data = tmp_path / "data"
    for index in range(4):
        stem = data / str(index)
        write_image(stem.with_suffix(".png"), width=16, height=16, colour=(60 * index, 90, 9))
        stem.with_suffix(".txt").write_text(f"a thing of kind {index}")
    pictures = ["data.frames=1", f"data.path={data}", "run.steps=1"]
    job.train(tmp_path, *pictures, "evaluation.panel_samples=4", "evaluation.every=1")
    assert "audit/diversity" in metrics_of(tmp_path / "run")[-1]
    out = tmp_path / "out"
    result = ddrl("sample", tmp_path / "run", "--num", "1", "--prompt", "a picture", "--out", out)
    assert result.code == 0, result.stderr
    assert sorted(p.name for p in out.iterdir()) == [
        *("000-a-picture-0.png", "grid.png", "manifest.json"),
    ]
    assert image_size(out / "000-a-picture-0.png") == (16, 16)
