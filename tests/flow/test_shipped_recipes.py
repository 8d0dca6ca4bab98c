"""The recipes that we ship, on tiny weights of the very families and with the rewards they name."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.command import ddrl, metrics_of
from tests.data.making import caption, write_image, write_video
from tests.models.families import test_cosmos as cosmos
from tests.models.families import test_flux as flux
from tests.models.families import test_sd3 as sd3
from tests.models.families.test_cosmos import torchvision
from tests.models.families.wan import wan_parts
from tests.rewards import tiny_clip, tiny_videoreward

__all__ = ["torchvision"]  # a fixture for all here

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = (
    *("run.steps=1", "run.device=cpu", "run.tensorboard=false", "model.lora.rank=2"),
    *("rollout.prompts_per_step=2", "rollout.group_size=2", "run.micro_batch=2"),
    *("evaluation.prompts=1", "evaluation.samples_per_prompt=2", "evaluation.steps=2"),
    *("evaluation.every=1", "data.heldout=0.4", "optimizer.warmup_steps=0"),
)


@pytest.fixture(scope="module")
def posters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captioned images whose captions quote a text."""
    root = tmp_path_factory.mktemp("posters")
    for index in range(6):
        picture = write_image(root / f"{index}.png", width=32 + index, height=32)
        caption(picture, f'a sign number {index} that says "open"')
    return root


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captioned clips."""
    root = tmp_path_factory.mktemp("clips")
    for index in range(5):
        clip = root / f"{index}.mp4"
        caption(write_video(clip, frames=24, fps=16, width=32, height=32, first=9 * index), "grey")
    return root


def shortened(name: str) -> list[str]:
    """Overrides that keep a recipe's own steps in proportion, in a third of the time."""
    if name in {"sd35_medium_ocr", "sd35_medium_24gb"}:
        return ["rollout.steps=3"]
    return ["rollout.steps=4", "rollout.trained_steps=[0, 2]"]


def run(name: str, tmp_path: Path, model: Path, data: Path, *overrides: str) -> Path:
    """Train one iteration of a shipped recipe."""
    where = (f"model.path={model}", f"data.path={data}")
    places = (f"run.folder={tmp_path / 'run'}", f"run.cache={tmp_path / 'cache'}")
    recipe = RECIPES / f"{name}.toml"
    result = ddrl("train", recipe, *SMALL, *shortened(name), *where, *places, *overrides)
    assert result.code == 0, result.stderr
    (line,) = metrics_of(tmp_path / "run")
    assert line["data_loss"] > 0
    assert line["ratio_deviation"] < 0.05
    assert line.get("rollout_deviation", 0.0) < 0.05  # which ratios of its own would hide
    assert "reward" in line
    return tmp_path / "run"


IMAGES = ("data.height=16", "data.width=16")


@pytest.mark.parametrize("name", ["sd35_medium_ocr", "sd35_medium_24gb"])
def test_sd35_with_ocr(posters: Path, tmp_path: Path, name: str) -> None:
    sd3.build_pipeline(tmp_path / "parts").save_pretrained(tmp_path / "model")
    run(name, tmp_path, tmp_path / "model", posters, *IMAGES)


def test_flux1_with_pickscore(posters: Path, tmp_path: Path) -> None:
    pipeline = flux.build_pipeline(tmp_path / "parts", guidance_embeds=True)
    pipeline.save_pretrained(tmp_path / "model")
    weights = tiny_clip.write_clip(tmp_path / "clip")
    reward = f"reward.0.options.weights={weights}"
    run("flux1_pickscore", tmp_path, tmp_path / "model", posters, *IMAGES, reward)


def video_reward(tmp_path: Path) -> list[str]:
    """Overrides that name a tiny VideoReward."""
    tiny = tiny_videoreward.make(tmp_path / "reward")
    return [f"reward.0.options.weights={tiny.folder}", f"reward.0.options.base={tiny.base}"]


CLIPS = ("data.height=16", "data.width=16", "data.frames=9")


@pytest.mark.parametrize("name", ["wan21_1b", "wan21_1b_24gb"])
def test_wan21_with_video_align(clips: Path, tmp_path: Path, name: str) -> None:
    pipeline = wan_parts.text_pipeline()
    pipeline.save_pretrained(tmp_path / "model")
    run(name, tmp_path, tmp_path / "model", clips, *CLIPS, *video_reward(tmp_path))


@pytest.mark.parametrize(
    "name", ["cosmos2_text_to_video", "cosmos2_image_to_video", "cosmos2_24gb"]
)
def test_cosmos_with_video_align(clips: Path, tmp_path: Path, name: str) -> None:
    cosmos.build_pipeline().save_pretrained(tmp_path / "model")
    run(name, tmp_path, tmp_path / "model", clips, *CLIPS, *video_reward(tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "sd35_medium_ocr",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("flux1_pickscore", "wan21_1b")),
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("wan21_1b_24gb",)),
        pytest.param("cosmos2_text_to_video", marks=pytest.mark.slow),
        pytest.param("cosmos2_image_to_video", marks=pytest.mark.slow),
    ],
)
def test_plans_need_no_weights_and_no_data(name: str) -> None:
    result = ddrl("train", RECIPES / f"{name}.toml", "--dry-run")
    assert result.code == 0, result.stderr
    assert "the most is" in result.stdout
    assert "not here yet: there is no data at" in result.stderr
