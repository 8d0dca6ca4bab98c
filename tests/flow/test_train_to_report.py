"""Train two runs, with every output on, and put them into one report."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest
from tests.cli.command import ddrl, finish, spawn, write_recipe


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    recipe = write_recipe(folder, tmp_path_factory)
    first = finish(spawn("train", recipe, "run.tensorboard=true"))
    assert first.code == 0, first.stderr
    assert first.stdout.startswith(f"{folder / 'run'}: 4 steps in ")
    assert first.stdout.endswith(f"Next: ddrl evaluate {folder / 'run'}\n")
    assert first.stdout.count("\n") == 1
    assert "step 4/4  reward 0." in first.stderr
    hacked = folder / "hacked"
    options = ["objective.regularizer=none", f"run.folder={hacked}"]
    assert ddrl("train", recipe, *options).code == 0
    return [folder / "run", hacked]


def test_what_a_run_leaves(runs: list[Path]) -> None:
    run = runs[0]
    info = json.loads((run / "run.json").read_text())
    assert info["format"] == "ddrl-run/1"
    assert info["command"][:2] == ["ddrl", "train"]
    assert info["seed"] == 0
    assert {"python", "torch"} <= info["versions"].keys()
    assert list(run.glob("events.*"))
    assert not list(runs[1].glob("events.*"))
    # The recipe that is kept is itself one, and resumes the run.
    again = ddrl("train", run / "recipe.toml")
    assert again.code == 0
    assert again.stdout.startswith("Already finished.")


def test_a_report_of_both(runs: list[Path], tmp_path: Path) -> None:
    result = ddrl("evaluate", *runs, "--out", tmp_path)
    assert result.code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[-2] == str(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert lines[-1] in html.unescape(page)  # its headline
    assert lines[-1].startswith("DDRL: ")
    head = lines[0].split()
    assert head[:5] == ["run", "reward", "judge", "Fréchet", "diversity"]
    assert [line.split()[0] for line in lines[1:4]] == ["base", "run", "hacked"]
    assert lines[4].startswith("run: ")
    assert lines[5].startswith("hacked: ")
    assert page.lower().startswith("<!doctype html>")


def test_the_report_as_json(runs: list[Path]) -> None:
    result = ddrl("evaluate", runs[0], "--json")
    assert result.code == 0, result.stderr
    report = json.loads(result.stdout)
    assert result.stdout == (runs[0] / "evaluation" / "report.json").read_text()
    figures = ["reward", "judge_accuracy", "frechet", "diversity", "heldout_loss_change"]
    for run in ("base", "run"):
        assert all(isinstance(report["runs"][run][name], float) for name in figures)


def test_what_can_not_be_evaluated(runs: list[Path], tmp_path: Path) -> None:
    ddrl("evaluate", tmp_path).failed(2, f"{tmp_path} is not the folder of a run")


def test_guidance_is_no_training(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The base is sampled as the run is: weights that have not moved give the same figures."""
    recipe = write_recipe(tmp_path, tmp_path_factory)
    options = ["rollout.guidance=3", "optimizer.learning_rate=1e-30", "run.steps=1"]
    assert ddrl("train", recipe, *options).code == 0
    report = json.loads(ddrl("evaluate", tmp_path / "run", "--json").stdout)["runs"]
    for figure in ("reward", "judge_accuracy", "frechet", "diversity"):
        assert report["run"][figure] == report["base"][figure]
