"""The embedded clips from a recipe to a report, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.cli.command import ddrl, metrics_of, shared_cache
from tests.data.making import write_image

from ddrl.builders.tasks.moving_digits import MovingDigits
from ddrl.builders.tasks.table import task_of
from ddrl.cli.pictures import Request, draw
from ddrl.recipe import parse_recipe
from ddrl.records import Prompts
from ddrl.runs.first_frames import read_first_frames
from ddrl.runs.loaded import load_run

RECIPE = """\
[model]
network = "dit"
width = 16
depth = 1
heads = 2
patch = 4
patch_frames = 8

[model.pretrain]
steps = 30
batch_size = 16

[data]
source = "moving_digits"
height = 12
width = 12
frames = 8

[[reward]]
name = "digit_identity"
weight = 0.1

[[reward]]
name = "motion"

[rollout]
prompts_per_step = 2
group_size = 4
steps = 3

[evaluation]
every = 2
prompts = 4
samples_per_prompt = 2
steps = 2
solver = "euler"

[run]
steps = 2
tensorboard = false
threads = 1
folder = "{folder}"
cache = "{cache}"
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moving")
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(folder=folder / "run", cache=shared_cache(tmp_path_factory)))
    return path


def test_a_run_and_its_samples(recipe: Path) -> None:
    folder = recipe.parent / "run"
    result = ddrl("train", recipe)
    assert result.code == 0, result.stderr
    lines = metrics_of(folder)
    assert {"reward/digit_identity", "reward/motion"} <= lines[0].keys()
    result = ddrl("sample", folder, "--prompt", "a three moving left slowly", "--num", "2")
    assert result.code == 0, result.stderr
    assert (folder / "samples" / "grid.png").is_file()
    ddrl("sample", folder, "--prompt", "a cat moving left slowly").failed(3, "word 'cat'")


@pytest.mark.slow
def test_its_report(recipe: Path) -> None:
    folder = recipe.parent / "reported"
    result = ddrl("train", recipe, f"run.folder={folder}")
    assert result.code == 0, result.stderr
    result = ddrl("evaluate", folder, "--json")
    assert result.code == 0, result.stderr
    assert "motion_accuracy" in result.stdout
    assert "rigidity" in result.stdout


def test_the_first_frame_is_given(recipe: Path) -> None:
    folder = recipe.parent / "given"
    result = ddrl("train", recipe, "data.given_frames=1", f"run.folder={folder}")
    assert result.code == 0, result.stderr
    run = load_run(folder)
    assert run.latent_shape == (1, 7, 12, 12)
    part, real = run.corpus.heldout, run.corpus.real
    assert part.x0.shape[1:] == (1, 7, 12, 12)
    media = run.model.decode(part.x0[:3], part.condition[part.caption_id[:3]])
    torch.testing.assert_close(media, real.media[:3])
    assert len(part.captions) == 597  # a prompt is a caption and a frame


def test_samples_begin_with_a_named_first_frame(recipe: Path) -> None:
    folder, text = recipe.parent / "given", "a three moving left slowly"
    first = write_image(recipe.parent / "first.png", width=12, height=12, colour=(60, 60, 60))
    ddrl("sample", folder, "--prompt", text).failed(2, "is given the first frame")
    result = ddrl("sample", folder, "--prompt", text, "--first-frame", first, "--num", "2")
    assert result.code == 0, result.stderr
    run = load_run(folder)
    pixels = draw(
        run,
        Request((text,), 2, 0, 2, "euler", 1, first_frames=read_first_frames(run.recipe, [first])),
    )
    assert pixels.shape == (2, 8, 12, 12, 3)
    assert bool((pixels[:, 0] == 60).all())
    assert not torch.equal(pixels[0, 1:], pixels[1, 1:])


def test_the_plan(recipe: Path) -> None:
    for more in ([], ["data.given_frames=1"]):
        result = ddrl("train", recipe, *more, "--dry-run")
        assert result.code == 0, result.stderr
        assert "at the peak" in result.stdout


def test_rewards_of_other_data_are_refused(recipe: Path) -> None:
    options = ["data.source=digits", "model.patch=4", "--dry-run"]
    ddrl("train", recipe, *options).failed(4, "'digit_identity' needs the option weights")
    options.append("reward.0.name=ink")
    ddrl("train", recipe, *options).failed(4, "'motion' needs the option slowly and quickly")


def test_judges_take_data_and_not_other_captions(recipe: Path) -> None:
    chosen = parse_recipe(recipe.read_text())
    task = MovingDigits(chosen)
    judges, clips = task.jury().judges, task.splits.heldout
    ids = clips.caption_id
    right = Prompts(ids, clips.texts(), tuple({} for _ in ids))
    others = (ids + 2) % 80
    wrong = Prompts(others, tuple(clips.captions[i] for i in others.tolist()), right.metadata)
    for name in ("judge_accuracy", "motion_accuracy"):
        assert float(judges[name](clips.media, right).mean()) > 0.95
        assert float(judges[name](clips.media, wrong).mean()) < 0.1
    assert float(judges["rigidity"](clips.media, right).mean()) > 0.9
    noise = torch.rand(clips.media[:4].shape, generator=torch.Generator().manual_seed(0))
    assert float(judges["rigidity"](noise, right).mean()) < 0.3


def test_the_base_of_images_has_no_key_of_clips(tmp_path: Path) -> None:
    """Settings of clips alone do not make every base again."""
    text = '[[reward]]\nname = "ink"\n[model]\nwidth = 16\ndepth = 1\n[model.pretrain]\nsteps = 0\n'
    chosen = parse_recipe(text + f'[run]\ncache = "{tmp_path}"\n')
    model = task_of(chosen).model(torch.device("cpu"))
    (folder,) = tmp_path.glob("base-*")
    assert set(json.loads((folder / "key.json").read_text())[1]) == {
        *("vocabulary", "height", "columns", "channels"),
        *("network", "width", "depth", "heads", "patch"),
    }
    weights = load_file(folder / "model.safetensors")
    assert set(weights) == set(model.transformer.state_dict())
