"""Paths of a recipe, made whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddrl.recipe import parse_recipe, resolve_paths
from ddrl.recipe.reading.paths import PATHS, expand_paths

TEXT = '[[reward]]\nname = "ink"\n'
FILES = (
    *("model.family=diffusers", "model.path=base", "model.dtype=float32", "model.lora.rank=4"),
    *("data.source=files", "data.path=pictures", "data.height=64", "data.width=64"),
)


def value(recipe: object, key: str) -> object:
    for part in key.split("."):
        recipe = getattr(recipe, part)
    return recipe


@pytest.mark.parametrize("key", [key for key in PATHS if key != "model.start"])
def test_every_path_is_made_whole(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    overrides = [one for one in FILES if not one.startswith(f"{key}=")]
    recipe = parse_recipe(TEXT, overrides=[*overrides, f"{key}=there"])
    whole = resolve_paths(recipe)
    assert value(whole, key) == str(tmp_path / "there")
    assert resolve_paths(whole) == whole


def test_an_adapter_to_start_with_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTERS", str(tmp_path))
    recipe = parse_recipe(TEXT, overrides=[*FILES, "model.lora.start=$ADAPTERS/mine"])
    assert expand_paths(recipe).model.lora.start == str(tmp_path / "mine")
    assert expand_paths(recipe).model.lora.rank == 4
