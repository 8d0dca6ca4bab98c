"""The audit of a run: held-out rewards, an encoder of the user's, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.command import ddrl, write_recipe
from transformers import CLIPVisionConfig, CLIPVisionModel

HELD_OUT = '\n[[evaluation.reward]]\nname = "classifier"\n'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose reward is brightness and whose held-out reward is the digits' classifier."""
    folder = tmp_path_factory.mktemp("audit")
    recipe = write_recipe(folder, tmp_path_factory)
    recipe.write_text(recipe.read_text() + HELD_OUT)
    assert ddrl("train", recipe, "objective.regularizer=none").code == 0
    return folder / "run"


@pytest.fixture(scope="module")
def report(run: Path) -> dict[str, Any]:
    result = ddrl("evaluate", run, "--json")
    assert result.code == 0, result.stderr
    read: dict[str, Any] = json.loads(result.stdout)
    return read


def test_every_measure_stands_beside_the_base(report: dict[str, Any]) -> None:
    base, run = report["runs"]["base"], report["runs"]["run"]
    assert list(run["measures"]) == ["judge_accuracy", "classifier"]
    assert run["measures"]["classifier"]["kind"] == "held-out reward"
    for name, one in run["measures"].items():
        before = base["measures"][name]
        assert one["change"] == pytest.approx(one["value"] - before["value"], abs=1e-9)
        assert before["change"] == 0.0
    low, high = run["measures"]["classifier"]["interval"]
    assert low < run["measures"]["classifier"]["value"] < high


def test_pixels_and_variety(report: dict[str, Any]) -> None:
    base, run = report["runs"]["base"], report["runs"]["run"]
    assert report["encoder"] == "the judge's last hidden layer"
    assert run["vendi"] > 0
    assert run["temporal_change"] is None
    assert run["pixels"].keys() == base["pixels"].keys() >= {"saturation", "edge_density"}
    assert all(one["moved"] == 0.0 for one in base["pixels"].values())
    for name, one in run["pixels"].items():
        moved = abs(one["difference"]) - abs(base["pixels"][name]["difference"])
        assert one["moved"] == pytest.approx(moved, abs=1e-9)


def test_regressions_are_of_the_reports_prompts(report: dict[str, Any], run: Path) -> None:
    assert report["runs"]["base"]["regressions"] == []
    found = report["runs"]["run"]["regressions"]
    assert 1 <= len(found) <= 5
    assert [one["change"] for one in found] == sorted(one["change"] for one in found)
    for one in found:
        assert one["worst"] in {"judge_accuracy", "classifier"}
        assert 0 <= one["prompt"] < len(report["prompts"])
    page = (run / "evaluation" / "report.html").read_text()
    assert "The worst prompts" in page


def test_an_encoder_of_the_users_is_named(run: Path, tmp_path: Path) -> None:
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    with torch.random.fork_rng(devices=[]):
        CLIPVisionModel(config).save_pretrained(tmp_path / "clip")
    text = (run / "recipe.toml").read_text()
    changed = tmp_path / "other"
    changed.mkdir()
    for file in run.iterdir():
        (changed / file.name).symlink_to(file)
    (changed / "recipe.toml").unlink()
    (changed / "recipe.toml").write_text(
        text.replace('encoder = "auto"', f'encoder = "{tmp_path / "clip"}"')
    )
    report = json.loads(ddrl("evaluate", changed, "--out", tmp_path, "--json").stdout)
    assert report["encoder"].startswith("CLIPVisionModel ")
    assert report["environment"]["Encoder"] == report["encoder"]
    assert report["runs"]["other"]["diversity"] > 0
    # Runs that were compared in other features can't stand in one table.
    ddrl("evaluate", run, changed).failed(3, "can't stand in one table", "evaluation.encoder")


def test_a_held_out_reward_that_is_not_there_is_found_at_the_start(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    recipe.write_text(recipe.read_text() + '\n[[evaluation.reward]]\nname = "inq"\n')
    ddrl("train", recipe).failed(4, "inq")
    assert not (tmp_path / "run" / "checkpoints").exists()
