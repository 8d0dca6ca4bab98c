"""``ddrl data encode``: what is made, and what is found again."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tests.cli.command import ddrl
from tests.models.families.test_sd3 import build_pipeline

RECIPE = """\
[model]
family = "diffusers"
path = "{model}"
[data]
source = "files"
path = "{folder}/data"
height = 16
width = 16
[[reward]]
name = "ink"
[run]
device = "cpu"
cache = "{folder}/cache"
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    build_pipeline(root / "tokenizers").save_pretrained(root / "model")
    return root / "model"


@pytest.fixture
def files(model: Path, tmp_path: Path) -> Path:
    """A recipe; its data are 4 images under 3 captions."""
    (tmp_path / "data").mkdir()
    for index in range(4):
        Image.new("RGB", (24, 16), (60 * index, 0, 0)).save(tmp_path / "data" / f"{index}.png")
        (tmp_path / "data" / f"{index}.txt").write_text(f"red {index % 3}")
    path = tmp_path / "files.toml"
    path.write_text(RECIPE.format(model=model, folder=tmp_path))
    return path


def encoded(recipe: Path, *overrides: str) -> list[str]:
    result = ddrl("data", "encode", recipe, *overrides)
    assert result.code == 0, result.stderr
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_only_what_is_new_is_encoded(files: Path) -> None:
    result = ddrl("data", "encode", files)
    assert "media 4/4" in result.stderr
    assert "media    4 encoded, 0 reused" in result.stdout
    assert "texts    4 encoded, 0 reused" in result.stdout  # and the empty one
    nothing = ["media 0 encoded, 4 reused", "texts 0 encoded, 4 reused", "skipped 0"]
    assert encoded(files) == nothing
    assert encoded(files, "data.height=32")[:2] == [
        "media 4 encoded, 0 reused",
        "texts 0 encoded, 4 reused",
    ]
    (files.parent / "data" / "1.txt").write_text("crimson")
    assert encoded(files)[:2] == ["media 0 encoded, 4 reused", "texts 1 encoded, 3 reused"]
    assert encoded(files)[0] == nothing[0]


def test_what_is_skipped_is_named(files: Path) -> None:
    (files.parent / "data" / "1.png").write_bytes(b"no image")
    lines = encoded(files, "data.on_broken=skip")
    assert lines[0] == "media 3 encoded, 0 reused"
    ddrl("data", "encode", files).failed(3, "1.png")


def test_what_can_not_be_encoded(files: Path, recipe: Path) -> None:
    ddrl("data", "encode", recipe).failed(2, "data.source digits is embedded", "data.path")
    ddrl("data", "encode", files, "data.height=17").failed(3, "17")
    ddrl("data", "encode", files, "data.path=nowhere").failed(3, "nowhere")
    ddrl("data", "encode", files, f"model.path={files.parent}").failed(
        3, "is not a diffusers pipeline", "save_pretrained"
    )
    ddrl("data", "encode", files, "data.heigth=16").failed(2, "heigth")


def test_captions_that_the_model_does_not_read_to_their_end(files: Path) -> None:
    for index, end in enumerate("ab"):
        (files.parent / "data" / f"{index}.txt").write_text("x" * 300 + end)
    result = ddrl("data", "encode", files)
    assert "note     2 of 4 texts are cut: the model reads 256 tokens" in result.stdout
    assert "note     2 texts become 1 to the model" in result.stdout
    assert "2 texts become 1 to the model" in result.stderr
