"""A package that is missing is found by the keys that need it, before anything is made."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.cli.command import ddrl

from ddrl.errors import UsageError
from ddrl.recipe import parse_recipe
from ddrl.recipe.extras import check_extras

TINY = '[[reward]]\nname = "ink"\n'
FILES = (
    *("model.family=diffusers", "model.path=x", "data.source=files", "data.path=d"),
    *("model.dtype=float32", "data.height=64", "data.width=64"),
)
CASES = {
    "wandb": (("run.wandb_project=mine",), 'run.wandb_project = "mine" needs wandb.', "wandb"),
    "diffusers": (FILES, 'model.family = "diffusers" needs diffusers.', "models"),
    "peft": ((*FILES, "model.lora.rank=4"), "model.lora.rank = 4 needs peft.", "models"),
    "av": ((*FILES, "data.frames=9"), "data.frames = 9 needs av.", "models"),
    "pyarrow": ((*FILES, "data.path=d/x.parquet"), "needs pyarrow.", "parquet"),
    "datasets": (
        (*FILES, "data.source=hub", "data.path=a/b"),
        'data.source = "hub" needs datasets.',
        "hub",
    ),
    "transformers": (("evaluation.encoder=x/y",), '"x/y" needs transformers.', "models"),
}


def hide(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == hidden else find(name, *a)
    )


@pytest.mark.parametrize("module", CASES)
def test_what_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    overrides, phrase, extra = CASES[module]
    recipe = parse_recipe(TINY, overrides=overrides)
    hide(monkeypatch, "nothing" if module != "wandb" else "wandb")
    if module != "wandb":
        check_extras(recipe)  # where it is there, nothing is missed
        hide(monkeypatch, module)
    with pytest.raises(UsageError) as caught:
        check_extras(recipe)
    assert phrase in caught.value.message
    assert caught.value.hint == f"pip install 'ddrl[{extra}]'"


def test_a_folder_of_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "pyarrow")
    recipe = parse_recipe(TINY, overrides=(*FILES, f"data.path={tmp_path}"))
    check_extras(recipe)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.parquet").touch()
    with pytest.raises(UsageError, match="pyarrow"):
        check_extras(recipe)


def test_a_run_without_wandb_makes_nothing_and_a_plan_says_so(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "wandb")
    before = set(recipe.parent.iterdir())
    ddrl("train", recipe, "run.wandb_project=mine").failed(2, "needs wandb", "ddrl[wandb]")
    assert set(recipe.parent.iterdir()) == before
    plan = ddrl("train", recipe, "run.wandb_project=mine", "--dry-run")
    assert plan.code == 0
    assert "not here yet: run.wandb_project" in plan.stderr
    check_extras(parse_recipe(TINY, overrides=["run.wandb_project=mine"]), is_trained=False)


EXTRAS = ("av", "datasets", "diffusers", "huggingface_hub", "peft", "pyarrow", "transformers")
COMMANDS = {
    "a run": (("train", "sd35_medium_ocr"), "models", 2),
    "a plan": (("train", "sd35_medium_ocr", "--dry-run"), "models", 2),
    "a base of the hub": (("doctor", "--model", "a/b"), "models", 2),
    "a base here": (("doctor", "--model", "base"), "models", 2),
    "a reward of released weights": (("reward", "audit", "aesthetic", "--data", "d"), "models", 4),
    "a judge of features": (("train", "tiny.toml", "evaluation.encoder=x/y"), "models", 2),
    "a table": (("data", "check", "t.parquet"), "parquet", 3),
    "clips": (("data", "encode", "files.toml", "data.frames=9"), "models", 2),
    "a set of the hub": (("train", "files.toml", "data.source=hub", "data.path=a/b"), "models", 2),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_a_plain_install_names_the_extra(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "t.parquet").touch()
    (tmp_path / "d").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "d" / "a.png")
    (tmp_path / "d" / "a.txt").write_text("a cat")
    (tmp_path / "files.toml").write_text(
        'model = {family = "diffusers", path = "base", dtype = "float32"}\n'
        'data = {source = "files", path = "d", height = 64, width = 64}\n' + TINY
    )
    for name in [one for one in sys.modules if one.partition(".")[0] in EXTRAS]:
        monkeypatch.delitem(sys.modules, name)
    for name in EXTRAS:
        monkeypatch.setitem(sys.modules, name, None)
    arguments, extra, code = COMMANDS[command]
    ddrl(*arguments).failed(code, f"pip install 'ddrl[{extra}]'")
