"""Checkpoints that are damaged, foreign, or of another recipe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.command import contents, ddrl, kept, metrics_of


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "manifest.json"])
def test_a_truncated_one_falls_back_to_the_previous(recipe: Path, trained: Path, name: str) -> None:
    whole = metrics_of(trained)
    weights = contents(trained)["checkpoints/step-00000004/model.safetensors"]
    truncate(trained / "checkpoints" / "step-00000004" / name)
    result = ddrl("train", recipe)
    assert result.code == 0
    assert "Falling back to the previous checkpoint." in result.stderr
    assert "resuming after step 2" in result.stderr
    assert metrics_of(trained) == whole
    assert contents(trained)["checkpoints/step-00000004/model.safetensors"] == weights


def test_none_is_whole(recipe: Path, trained: Path) -> None:
    for path in trained.glob("checkpoints/*/model.safetensors"):
        truncate(path)
    before = contents(trained)
    ddrl("train", recipe).failed(5, "No checkpoint in", "is whole", "another run.folder")
    assert {**contents(trained), "lock": ""} == {**before, "lock": ""}


def test_a_foreign_one(recipe: Path, trained: Path) -> None:
    for path in trained.glob("checkpoints/*/manifest.json"):
        path.write_text(json.dumps({"format": "somebody-else/3", "step": 4}))
    before = kept(trained)
    ddrl("train", recipe).failed(5, "'somebody-else/3'")
    assert kept(trained) == before


def test_one_of_another_recipe_lists_the_differences(recipe: Path, trained: Path) -> None:
    before = contents(trained)
    result = ddrl("train", recipe, "objective.beta=0.5", "rollout.steps=12", "run.steps=8")
    result.failed(5, "objective.beta: 1.0 -> 0.5", "rollout.steps: 10 -> 12", "run.folder=PATH")
    assert "run.steps" not in result.stderr
    assert {**contents(trained), "lock": ""} == {**before, "lock": ""}


def test_a_resume_in_other_memory_goes_on_and_says_so(recipe: Path, trained: Path) -> None:
    other = ["run.micro_batch=3", "run.steps_per_pass=2", "reward.0.samples_per_call=1"]
    result = ddrl("train", recipe, "run.steps=5", *other)
    assert result.code == 0, result.stderr
    assert "resuming after step 4" in result.stderr
    assert "run.micro_batch: 0 -> 3" in result.stderr
    assert "but perhaps for its last bits" in result.stderr
    assert [row["step"] for row in metrics_of(trained)] == [1, 2, 3, 4, 5]


def test_one_of_an_older_ddrl(recipe: Path, trained: Path) -> None:
    for path in trained.glob("checkpoints/*/manifest.json"):
        manifest = json.loads(path.read_text())
        manifest["recipe"] = manifest["recipe"].replace("group_size", "size_of_group")
        path.write_text(json.dumps(manifest))
    ddrl("train", recipe).failed(5, "not one any more", "size_of_group", "run.folder=PATH")


def test_a_longer_run_goes_on(recipe: Path, trained: Path) -> None:
    result = ddrl("train", recipe, "run.steps=6")
    assert result.code == 0
    assert [line["step"] for line in metrics_of(trained)] == [1, 2, 3, 4, 5, 6]
    assert result.stdout.startswith(f"{trained}: 6 steps in ")


def test_a_finished_run_says_so(recipe: Path, trained: Path) -> None:
    before = kept(trained)
    result = ddrl("train", recipe)
    assert result.code == 0
    assert result.stdout.startswith(f"Already finished. {trained}: 4 steps in ")
    assert kept(trained) == before


def test_a_shorter_run_is_told_what_is_there(recipe: Path, trained: Path) -> None:
    before = kept(trained)
    result = ddrl("train", recipe, "run.steps=2")
    assert result.code == 0
    whole = ddrl("train", recipe).stdout
    assert result.stdout == whole
    assert f"{trained}: 4 steps in " in whole
    assert kept(trained) == before


def test_the_user_s_copies_are_left_alone(recipe: Path, trained: Path) -> None:
    """Beside the checkpoints, under names that only begin as theirs."""
    newest = trained / "checkpoints" / "step-00000004"
    names = ("step-00000004-keep", "step-00000009.bak", "step-9", "step-000000099")
    for name in names:
        shutil.copytree(newest, trained / "checkpoints" / name)
    (trained / "checkpoints" / "step-latest").symlink_to(newest)
    result = ddrl("train", recipe, "run.steps=9", "run.checkpoint_every=1")
    assert result.code == 0, result.stderr
    assert "resuming after step 4" in result.stderr
    there = {path.name for path in (trained / "checkpoints").iterdir()}
    assert there == {*names, "step-latest", "step-00000008", "step-00000009"}
    ddrl("sample", trained, "--step", "99").failed(5, "no checkpoint of step 99", "it has 8, 9")
    ddrl("export", trained, "--step", "4", "--out", recipe.parent / "out").failed(5, "it has 8, 9")
