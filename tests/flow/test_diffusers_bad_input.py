"""What can be wrong with a model or data of the user's own, told before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.command import ddrl
from tests.flow.diffusers_jobs import Job
from tests.flow.test_diffusers import write_picture
from tests.models.families.test_sd3 import build_pipeline

from ddrl.builders import pretrained


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp("sd3")
    (root / "empty").mkdir()
    (root / "other").mkdir()
    (root / "other" / "model_index.json").write_text(json.dumps({"_class_name": "PixelPipeline"}))
    return Job.make(root, build_pipeline(root / "parts"), write_picture, side=16)


BEFORE_THE_MODEL = [
    ("data.path={root}/nowhere", 3, ["There is no data at", "nowhere", "set data.path"]),
    ("reward.0.name=classifier", 4, ["'classifier' needs the option weights"]),
]
WITH_THE_MODEL = [
    ("model.path={root}/empty", 3, ["is not a diffusers pipeline", "save_pretrained"]),
    ("model.path={root}/other", 3, ["PixelPipeline", "it knows", "StableDiffusion3Pipeline"]),
    ("model.lora.targets=to_nothing", 3, ["nothing ends in to_nothing", "attn.to_q"]),
    ("data.height=33", 3, ["multiples of 2, not 33x16", "the nearest is"]),
    ("data.frames=5", 3, ["images, not clips of 5 frames", "data.frames = 1"]),
]


@pytest.mark.parametrize("dry", [True, False], ids=["dry", "train"])
@pytest.mark.parametrize(("override", "code", "phrases"), BEFORE_THE_MODEL + WITH_THE_MODEL)
def test_it_is_told(
    job: Job, tmp_path: Path, override: str, code: int, phrases: list[str], dry: bool
) -> None:
    more = ["--dry-run"] if dry else []
    result = ddrl("train", job.recipe(tmp_path), override.format(root=job.root), *more)
    if dry and "nowhere" in override:  # a plan may come before its data
        assert (result.code, "not here yet: there is no data at" in result.stderr) == (0, True)
        return
    assert (result.code, result.stdout) == (code, "")
    result.failed(code, *phrases)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("dry", [True, False], ids=["dry", "train"])
@pytest.mark.parametrize(("override", "code", "phrases"), BEFORE_THE_MODEL)
def test_the_cheap_comes_before_the_model(
    job: Job,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    override: str,
    code: int,
    phrases: list[str],
    dry: bool,
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(pretrained, "load_model", load)
    more = ["--dry-run"] if dry else []
    result = ddrl("train", job.recipe(tmp_path), override.format(root=job.root), *more)
    assert result.code == (0 if dry and "nowhere" in override else code), result.stderr
