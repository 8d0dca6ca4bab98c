"""Pipes and devices under the names of recipes, runs and models are named, and not waited for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.command import ddrl

from ddrl.errors import WeightsError
from ddrl.models.pretrained import load_model
from ddrl.models.tiny.model import TinyModel

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


ODD = pytest.mark.parametrize("make", [pipe, device])


@ODD
@pytest.mark.parametrize(
    "command", [("train",), ("compare",), ("reward", "serve"), ("data", "encode")], ids=" ".join
)
def test_a_recipe(tmp_path: Path, command: tuple[str, ...], make: Callable[[Path], None]) -> None:
    make(tmp_path / "recipe.toml")
    result = ddrl(*command, tmp_path / "recipe.toml")
    assert result.code == 2
    assert "it is a pipe, socket or device, no regular file" in result.stderr


@ODD
@pytest.mark.parametrize("command", ["evaluate", "sample", "export"])
def test_the_recipe_of_a_run(tmp_path: Path, command: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / "recipe.toml")
    result = ddrl(command, tmp_path)
    assert result.code == 2
    assert "has no readable recipe.toml" in result.stderr


@ODD
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_the_embedded_model(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / name)
    if name != "config.json":
        (tmp_path / "config.json").write_text(json.dumps({"family": "tiny"}))
    with pytest.raises(WeightsError):
        TinyModel.load(tmp_path)


@ODD
@pytest.mark.parametrize("name", ["model_index.json", "vae/diffusion_pytorch_model.safetensors"])
def test_a_pipeline(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusion3Pipeline"}')
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    with pytest.raises(WeightsError):
        load_model(tmp_path)


@ODD
def test_the_place_of_an_export_and_of_samples(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    from ddrl.cli.data.synthesize import _is_ours
    from ddrl.cli.pictures import _remove_earlier
    from ddrl.runs.export import _earlier

    for name in ("export.json", "manifest.json"):
        make(tmp_path / name)
    assert _earlier(tmp_path) is None
    assert not _is_ours(tmp_path / "manifest.json")
    _remove_earlier(tmp_path)
    assert (tmp_path / "manifest.json").is_symlink() or (tmp_path / "manifest.json").exists()
