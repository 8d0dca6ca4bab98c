"""Image-to-video through a recipe and the command line, on a tiny Wan2.2 TI2V pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest
import torch
from diffusers import WanPipeline
from tests.cli.command import ddrl, metrics_of
from tests.data.making import write_image, write_video
from tests.flow.diffusers_jobs import Job, image_size, weights
from tests.models.families.wan.test_wan_ti2v import build
from torch import Tensor

from ddrl.evaluation.measures.generate import generate
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.runs.first_frames import encode_prompts, read_first_frames
from ddrl.runs.loaded import LoadedRun, load_run

GIVEN = "data.given_frames=1"


def write_clip(stem: Path, index: int) -> None:
    """Clips that begin with different grey levels, but for the last, which begins as the first."""
    first = 24 * (index % 7)
    write_video(stem.with_suffix(".mp4"), frames=5 + index, width=40, height=32, first=first)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp("ti2v")
    return Job.make(root, build(WanPipeline), write_clip, side=32, frames=5)


@pytest.fixture(scope="module")
def run(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoded, and trained from what was encoded."""
    folder = tmp_path_factory.mktemp("run")
    encoded = ddrl("data", "encode", job.recipe(folder), GIVEN)
    assert encoded.code == 0, encoded.stderr
    assert "given    8 encoded, 0 reused" in encoded.stdout
    result = job.train(folder, GIVEN, "rollout.guidance=2.0")
    assert "media 0 encoded, 8 reused; given 0 encoded, 8 reused; texts 0" in result.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def loaded(run: Path) -> LoadedRun:
    return load_run(run)


def test_it_learns(run: Path, loaded: LoadedRun) -> None:
    lines = metrics_of(run)
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[-1]["heldout_loss_change"] != 0
    after = weights(run, 2)
    assert any(bool(value.any()) for name, value in after.items() if "lora_B" in name)
    prompts = loaded.corpus.train.captions + loaded.corpus.heldout.captions
    assert len(prompts) == 8  # of 6 captions: those of equal captions begin differently


def sampled(loaded: LoadedRun, *files: Path) -> Tensor:
    """Two samples each of two prompts, pixels."""
    frames = read_first_frames(loaded.recipe, files)
    assert frames is not None
    return generate(
        loaded.forward,
        ["a", "b"],
        condition=encode_prompts(loaded, ["a", "b"], frames),
        samples_per_prompt=2,
        latent_shape=loaded.latent_shape,
        seed=1,
        num_steps=2,
    ).media


def shown(loaded: LoadedRun, frames: Tensor) -> Tensor:
    """Given frames as the VAE alone shows them."""
    model = loaded.model
    assert isinstance(model, DiffusersModel)
    model.given_frames = 0
    try:
        pictures = model.decode(model.encode_media(frames))  # a clip of one frame is a picture
        return pictures[:, None]
    finally:
        model.given_frames = 1


def test_samples_begin_with_the_given_frame_and_others_stay(
    loaded: LoadedRun, tmp_path: Path
) -> None:
    one, two, three = (
        write_image(tmp_path / f"{i}.png", width=80, height=64, colour=(90 * i, 40, 200 - 90 * i))
        for i in range(3)
    )
    clips, others = sampled(loaded, one, two), sampled(loaded, one, three)
    assert clips.shape == (4, 5, 3, 32, 32)
    assert torch.equal(clips[:2], others[:2])
    assert not torch.equal(clips[2:, 1:], others[2:, 1:])
    frames = read_first_frames(loaded.recipe, [one, two])
    assert frames is not None
    # Exact but for the last bits, which depend on how many frames are decoded together.
    expected = shown(loaded, frames).repeat_interleave(2, 0)
    torch.testing.assert_close(clips[:, :1], expected, atol=1e-6, rtol=0)


def test_each_held_out_prompt_is_sampled_from_its_own_frame(loaded: LoadedRun) -> None:
    heldout, real = loaded.corpus.heldout, loaded.corpus.real
    media = generate(
        loaded.forward,
        heldout.captions,
        condition=heldout.condition,
        samples_per_prompt=1,
        latent_shape=loaded.latent_shape,
        seed=1,
        num_steps=2,
    ).media
    assert len(media) == len(heldout.captions) == len(real)  # one clip each, in their order
    expected = shown(loaded, real.media[:][:, :1])
    assert not torch.equal(expected[0], expected[1])
    torch.testing.assert_close(media[:, :1], expected, atol=1e-6, rtol=0)


def test_sample(run: Path, tmp_path: Path) -> None:
    picture = write_image(tmp_path / "picture.png", width=64, height=48)
    clip = write_video(tmp_path / "clip.mp4", frames=3, width=64, height=48)
    out = tmp_path / "out"
    both: list[str | Path] = ["--prompt", "a", "--prompt", "b"]
    both += ["--first-frame", picture, "--first-frame", clip]
    result = ddrl("sample", run, "--num", "1", "--out", out, *both)
    assert result.code == 0, result.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["first_frames"] == [str(picture), str(clip)]
    with av.open(str(out / "000-a-0.mp4")) as container:
        assert len(list(container.decode(video=0))) == 5
    # One picture for all the captions of the data, each of which is sampled once.
    result = ddrl("sample", run, "--num", "1", "--out", out, "--first-frame", picture)
    assert result.code == 0, result.stderr
    prompts = json.loads((out / "manifest.json").read_text())["prompts"]
    assert len(prompts) == len(set(prompts)) > 1
    assert image_size(out / "grid.png") == (32, 33 * len(prompts) - 1)
    # Without one, each clip of the data that was trained on begins with its own.
    result = ddrl("sample", run, "--num", "1", "--out", out)
    assert result.code == 0, result.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    own = load_run(run).corpus.train.captions
    assert (tuple(manifest["prompts"]), manifest["first_frames"]) == (own, [])


def test_sample_needs_first_frames(run: Path, tmp_path: Path) -> None:
    one = ("--prompt", "a")
    ddrl("sample", run, *one).failed(2, "is given the first frame of each clip", "--first-frame")
    picture = write_image(tmp_path / "picture.png")
    three: tuple[str | Path, ...] = ("--first-frame", picture) * 3
    two = ["--prompt", "a", "--prompt", "b"]
    ddrl("sample", run, *two, *three).failed(2, "3 given pictures for 2 prompts", "one for all")
    ddrl("sample", run, *two, "--first-frame", tmp_path / "none.png").failed(3, "none.png")
    text = tmp_path / "text.png"
    text.write_text("no picture at all")
    ddrl("sample", run, *two, "--first-frame", text).failed(3, "text.png")


def test_evaluation_and_export(run: Path, tmp_path: Path) -> None:
    result = ddrl("evaluate", run)
    assert result.code == 0, result.stderr
    report = json.loads((run / "evaluation" / "report.json").read_text())
    assert list(report["runs"]) == ["base", "run"]
    for one in report["runs"].values():
        assert one["heldout_loss_change"] is not None
    assert ddrl("export", run, "--out", tmp_path / "export").code == 0


@pytest.mark.parametrize(
    ("overrides", "code", "phrases"),
    [
        (["data.given_frames=5"], 2, ["data.given_frames is 5", "data.frames = 5"]),
        (["data.given_frames=3"], 3, ["WanTI2V takes 0 or 1 given frames, not 3", "= 0 or 1"]),
    ],
)
def test_wrong_numbers_come_before_anything_is_encoded(
    job: Job, tmp_path: Path, overrides: list[str], code: int, phrases: list[str]
) -> None:
    cache = f"run.cache={tmp_path}/cache"
    for command in (["train"], ["data", "encode"]):
        ddrl(*command, job.recipe(tmp_path), cache, *overrides).failed(code, *phrases)
    assert not (tmp_path / "cache").exists()
