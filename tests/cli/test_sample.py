"""``ddrl sample``: pictures, manifest, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.command import contents, ddrl

from ddrl.runs.loaded import load_run


def test_pictures_and_manifest(finished: Path, tmp_path: Path) -> None:
    arguments = ("sample", finished, "--prompt", "seven", "--prompt", "two", "--num", 3)
    result = ddrl(*map(str, arguments), "--out", tmp_path, "--scale", "4", "--seed", "7")
    assert result.code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(tmp_path / "grid.png")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["format"] == "ddrl-samples/1"
    assert (manifest["step"], manifest["weights"], manifest["seed"]) == (4, "ema", 7)
    assert manifest["prompts"] == ["seven", "two"]
    names = [f"{i:03d}-{'seven' if i < 3 else 'two'}-{i % 3}.png" for i in range(6)]
    assert [entry["file"] for entry in manifest["files"]] == names
    for entry in [*manifest["files"], manifest["grid"]]:
        digest = hashlib.sha256((tmp_path / entry["file"]).read_bytes()).hexdigest()
        assert digest == entry["sha256"]
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == (4 * 17, 4 * 26, 3)
    last = np.asarray(Image.open(tmp_path / names[-1]))
    assert last.shape == (32, 32, 3)
    assert (grid[-32:, -32:] == last).all()
    assert (grid[32:36] == 255).all()


def sampled(run: Path, out: Path, *arguments: str) -> dict[str, str]:
    """The hashes of one prompt's pictures."""
    result = ddrl("sample", run, "--prompt", "one", "--num", "2", "--out", out, *arguments)
    assert result.code == 0, result.stderr
    return {name: digest for name, digest in contents(out).items() if name.endswith(".png")}


def test_the_same_again_and_different_weights(finished: Path, tmp_path: Path) -> None:
    first = sampled(finished, tmp_path / "first")
    assert sampled(finished, tmp_path / "again") == first
    others = [
        sampled(finished, tmp_path / "raw", "--raw"),
        sampled(finished, tmp_path / "base", "--base"),
        sampled(finished, tmp_path / "step", "--step", "2"),
        sampled(finished, tmp_path / "seed", "--seed", "8"),
    ]
    assert all(other != first for other in others)


def test_a_smaller_set_replaces_a_larger_one(finished: Path, tmp_path: Path) -> None:
    ddrl("sample", finished, "--out", tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 41
    mine = tmp_path / "mine.png"
    mine.touch()
    ddrl("sample", finished, "--out", tmp_path, "--prompt", "one", "--num", "1")
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "000-one-0.png",
        "grid.png",
        "mine.png",
    ]


def test_what_can_not_be_sampled(finished: Path, recipe: Path) -> None:
    nowhere = recipe.parent / "nowhere"
    ddrl("sample", nowhere).failed(2, f"{nowhere} is not the folder of a run", "ddrl train")
    ddrl("sample", recipe.parent / "recipe.toml").failed(2, "no readable recipe.toml")
    empty = recipe.parent / "empty"
    empty.mkdir()
    (empty / "recipe.toml").write_text(recipe.read_text())
    ddrl("sample", empty).failed(5, "has no checkpoint yet", "run.checkpoint_every")
    ddrl("sample", finished, "--step", "3").failed(5, "no checkpoint of step 3", "it has 2, 4")
    ddrl("sample", finished, "--prompt", "seve").failed(3, "'seve'", "did you mean 'seven'?")
    ddrl("sample", finished, "--out", recipe).failed(2, f"can't be written to {recipe}", "--out")


def test_a_run_as_python_sees_it(finished: Path) -> None:
    run = load_run(finished)
    assert (run.name, run.step, run.weights) == ("run", 4, "ema")
    assert run.latent_shape == (1, 8, 8)
    assert [line["step"] for line in run.metrics] == [1, 2, 3, 4]
    assert run.info["seed"] == 0
    assert run.scorer.names == ("ink",)
    assert load_run(finished, weights="base").step == 0
    assert not any(p.requires_grad for p in run.forward.model.transformer.parameters())


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_a_run_without_its_information(trained: Path, text: str) -> None:
    (trained / "run.json").write_text(text)
    assert load_run(trained).info == {}


def test_prompts_of_any_script_are_told_apart_by_their_file_names() -> None:
    from ddrl.cli.pictures import slug

    texts = ["数字の七", "数字の八", "семь", "восемь", "größe", "A cat, 3x!"]
    names = [slug(text) for text in texts]
    assert len(set(names)) == len(texts)
    assert names[-1] == "a-cat-3x"
    assert slug("../\x1b[2J/\u202e") == "2j"
    assert slug("!?") == slug("❤\ufe0f") == "empty"
    assert len(slug("猫" * 300).encode()) < 200
