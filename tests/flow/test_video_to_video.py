"""Video-to-video through a recipe: a tiny Cosmos-Predict2.5 that is given 5 frames."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.command import ddrl
from tests.data.making import caption, write_image, write_video
from tests.flow.diffusers_jobs import Job
from tests.models.families.test_cosmos import build_pipeline, torchvision

__all__ = ["torchvision"]  # a fixture for all here: what stands in for a part

FIVE = ("data.given_frames=5", "data.frames=9", "data.width=16")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp("v2v")
    build_pipeline().save_pretrained(root / "model")
    for index in range(4):
        clip = root / "data" / f"{index}.mp4"
        caption(write_video(clip, frames=9, width=16, height=16, first=40 * index), "it grows")
    return Job(root, 16, 9)


def test_a_run_of_clips_that_are_continued(job: Job, tmp_path: Path) -> None:
    result = job.train(tmp_path, *FIVE)
    assert "media 4 encoded, 0 reused; given 4 encoded, 0 reused" in result.stderr
    again = ddrl("data", "encode", job.recipe(tmp_path), *FIVE)
    assert "given    0 encoded, 4 reused" in again.stdout
    # With one frame given, latents keep one more latent frame: both are other things.
    one = ddrl("data", "encode", job.recipe(tmp_path), *FIVE, "data.given_frames=1")
    assert "media    4 encoded, 0 reused" in one.stdout
    assert "given    4 encoded, 0 reused" in one.stdout
    run, out = tmp_path / "run", tmp_path / "out"
    start = write_video(tmp_path / "start.mp4", frames=7, width=32, height=32, first=100)
    sample: list[str | Path] = [
        "sample",
        run,
        "--prompt",
        "a",
        "--num",
        "1",
        "--out",
        out,
        "--first-frame",
    ]
    result = ddrl(*sample, start)
    assert result.code == 0, result.stderr
    assert json.loads((out / "manifest.json").read_text())["first_frames"] == [str(start)]
    picture = write_image(tmp_path / "picture.png")
    ddrl(*sample, picture).failed(2, "is a picture", "the first 5 frames")
    short = write_video(tmp_path / "short.mp4", frames=4)
    ddrl(*sample, short).failed(3, "short.mp4", "4 frames", "5")


def test_a_wrong_number_names_those_allowed(job: Job, tmp_path: Path) -> None:
    result = ddrl("train", job.recipe(tmp_path), *FIVE, "data.given_frames=4")
    result.failed(3, "Cosmos takes 0, 1 or 5 given frames, not 4", "set data.given_frames = 0, 1")
