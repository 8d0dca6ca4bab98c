"""A run knows its base and its data by content, wherever they lie: refused, or gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.cli.command import Result, ddrl, kept, metrics_of, write_recipe
from tests.data.making import write_image
from tests.flow.diffusers_jobs import Job
from tests.models.families.test_sd3 import build_pipeline


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run of a tiny SD3 on pictures, with a checkpoint of step 2."""
    root = tmp_path_factory.mktemp("identity")

    def write(stem: Path, index: int) -> None:
        write_image(stem.with_suffix(".png"), width=32, height=32, colour=(30 * index, 90, 9))

    job = Job.make(root, build_pipeline(root / "parts"), write, side=16)
    job.train(root)
    return job


@pytest.fixture
def copied(trained: Job, tmp_path: Path) -> Path:
    """Model, data and run of one's own, in the places that the run's recipe names."""
    for name in ("model", "data", "run"):
        shutil.copytree(trained.root / name, tmp_path / name)
    recipe = (trained.root / "recipe.toml").read_text()
    saved = str(trained.root)
    places = [tmp_path / "recipe.toml", *tmp_path.glob("run/recipe.toml")]
    places += tmp_path.glob("run/checkpoints/*/manifest.json")
    for path in places:
        text = path.read_text() if path.exists() else recipe
        kept_cache = text.replace(f"{saved}/cache", "<cache>").replace(saved, str(tmp_path))
        path.write_text(kept_cache.replace("<cache>", f"{saved}/cache"))
    return tmp_path


def scaled(part: str) -> Callable[[Path], None]:
    """Multiplies the weights of a part by 1.5 in their file."""

    def change(root: Path) -> None:
        (path,) = (root / "model" / part).glob("*.safetensors")
        weights = {n: 1.5 * t if t.is_floating_point() else t for n, t in load_file(path).items()}
        save_file(weights, path, {"format": "pt"})

    return change


def everything(root: Path) -> None:
    for path in (root / "model").glob("*/*.safetensors"):
        scaled(path.parent.name)(root)


def everything_in(model: Path) -> None:
    """Likewise, of a model of another name."""
    model.rename(model.with_name("model"))
    everything(model.parent)
    model.with_name("model").rename(model)


def one_number(root: Path) -> None:
    """The smallest change of the smallest kind: one bit of one weight."""
    (path,) = (root / "model" / "vae").glob("*.safetensors")
    weights = load_file(path)
    name = max(weights, key=lambda n: weights[n].numel())
    flat = weights[name].view(torch.int32).flatten()
    flat[len(flat) // 2] ^= 1
    save_file(weights, path, {"format": "pt"})


def tokenizer(root: Path) -> None:
    path = root / "model" / "tokenizer_3" / "tokenizer_config.json"
    path = path if path.exists() else root / "model" / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 7}))


BASES = [
    (everything, "text_encoder"),
    (scaled("transformer"), "transformer differs"),
    (scaled("vae"), "vae differs"),
    (one_number, "vae differs"),
    (scaled("text_encoder"), "text_encoder differs"),
    (tokenizer, "tokenizer"),
]
COMMANDS: dict[str, Callable[[Path], Result]] = {
    "train": lambda root: ddrl("train", root / "recipe.toml", "run.steps=4"),
    "sample": lambda root: ddrl("sample", root / "run", "--prompt", "a thing", "--num", "1"),
    "base": lambda root: ddrl("sample", root / "run", "--prompt", "a thing", "--base"),
    "export": lambda root: ddrl("export", root / "run"),
    "evaluate": lambda root: ddrl("evaluate", root / "run"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_another_base_under_the_same_path(copied: Path, command: str) -> None:
    everything(copied)
    before = kept(copied / "run")
    COMMANDS[command](copied).failed(
        5, "trained on another base than the base at", "model.path=PATH"
    )
    assert kept(copied / "run") == before


@pytest.mark.parametrize(("change", "phrase"), BASES)
def test_the_part_that_differs_is_named(
    copied: Path, change: Callable[[Path], None], phrase: str
) -> None:
    change(copied)
    COMMANDS["sample"](copied).failed(5, phrase)


def add(root: Path) -> None:
    write_image(root / "data" / "new.png", width=32, height=32)
    (root / "data" / "new.txt").write_text("a new thing")


def remove(root: Path) -> None:
    (root / "data" / "03.png").unlink()
    (root / "data" / "03.txt").unlink()


def edit(root: Path) -> None:
    write_image(root / "data" / "03.png", width=32, height=32, colour=(1, 2, 3))


def recaption(root: Path) -> None:
    (root / "data" / "03.txt").write_text("another thing")


DATA = [
    (add, "'new.png' is new"),
    (remove, "'03.png' is gone"),
    (edit, "'03.png' holds something else"),
    (recaption, "'03.png' has another caption"),
]


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize(("change", "phrase"), DATA)
def test_other_data_under_the_same_path(
    copied: Path, change: Callable[[Path], None], phrase: str, command: str
) -> None:
    change(copied)
    before = kept(copied / "run")
    COMMANDS[command](copied).failed(5, "trained on other data", phrase, "data.path=PATH")
    assert kept(copied / "run") == before


def test_samples_and_exports_do_not_need_the_data(copied: Path) -> None:
    shutil.rmtree(copied / "data")
    for command in ("sample", "export"):
        result = COMMANDS[command](copied)
        assert result.code == 0, result.stderr


def test_the_same_base_and_data_elsewhere_are_gone_on_with(copied: Path, trained: Job) -> None:
    """As the hints say; and what is trained is what the run that was never moved is."""
    (copied / "model").rename(copied / "moved")
    (copied / "data").rename(copied / "pictures")
    moved = [f"model.path={copied}/moved", f"data.path={copied}/pictures"]
    result = ddrl("train", copied / "recipe.toml", "run.steps=4", *moved)
    assert result.code == 0, result.stderr
    straight = copied / "straight"
    trained.train(straight, "run.steps=4")
    assert metrics_of(copied / "run") == metrics_of(straight / "run")
    assert COMMANDS["sample"](copied).code == 0  # the run has its new place
    assert f'path = "{copied}/moved"' in (copied / "run" / "recipe.toml").read_text()


@pytest.mark.parametrize("command", ["sample", "export", "evaluate"])
def test_a_run_is_read_where_its_base_and_data_lie_now(
    copied: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copied / "model").rename(copied / "moved")
    (copied / "data").rename(copied / "pictures")
    monkeypatch.setenv("PICTURES", str(copied / "pictures"))
    more = ["--num", "1", "--prompt", "a thing"] if command == "sample" else []
    COMMANDS[command](copied).failed(3, f"There is no folder {copied}/model", "model.path=PATH")
    here = ["data.path=$PICTURES", "--model", f"{copied}/moved"]
    result = ddrl(command, copied / "run", *here, *more)
    assert result.code == 0, result.stderr
    everything_in(copied / "moved")
    ddrl(command, copied / "run", *here, *more).failed(5, "trained on another base")


def test_a_refused_resume_leaves_the_run_as_it_is(copied: Path) -> None:
    shutil.copytree(copied / "model", copied / "other" / "model")
    everything(copied / "other")
    before = (copied / "run" / "recipe.toml").read_text()
    other = f"model.path={copied}/other/model"
    ddrl("train", copied / "recipe.toml", "run.steps=4", other).failed(5, "another base")
    assert (copied / "run" / "recipe.toml").read_text() == before
    assert COMMANDS["sample"](copied).code == 0


def test_a_checkpoint_of_an_earlier_version_is_taken_with_a_warning(
    copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in copied.glob("run/checkpoints/*/manifest.json"):
        manifest = json.loads(path.read_text())
        del manifest["notes"]["identity"]
        path.write_text(json.dumps(manifest))
    scaled("vae")(copied)
    for command in ("sample", "train"):
        caplog.clear()
        result = COMMANDS[command](copied)
        assert result.code == 0, result.stderr
        assert "does not say what base and data it was trained on" in caplog.text


def test_a_path_that_can_not_be_checked_is_refused_as_ever(copied: Path) -> None:
    for path in copied.glob("run/checkpoints/*/manifest.json"):
        manifest = json.loads(path.read_text())
        del manifest["notes"]["identity"]
        path.write_text(json.dumps(manifest))
    (copied / "model").rename(copied / "moved")
    result = ddrl("train", copied / "recipe.toml", "run.steps=4", f"model.path={copied}/moved")
    result.failed(5, "made with another recipe", "model.path")


def test_the_embedded_base(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    cache = f"run.cache={tmp_path}/cache"
    assert ddrl("train", recipe, cache, "run.steps=2").code == 0
    (path,) = (tmp_path / "cache").glob("base-*/model.safetensors")
    save_file({name: 1.5 * tensor for name, tensor in load_file(path).items()}, path)
    for command in (["train", str(recipe), cache], ["evaluate", str(tmp_path / "run")]):
        ddrl(*command).failed(5, "another base than the embedded base", "copy the folder base-*")
    ddrl("sample", tmp_path / "run", "--base").failed(5, "network differs")
    caplog.clear()
    assert ddrl("sample", tmp_path / "run").code == 0  # all of its weights are the checkpoint's
    assert "its own weights do not depend on it" in caplog.text
    shutil.rmtree(tmp_path / "cache")  # and it is made again as it was
    assert ddrl("train", recipe, cache).code == 0
