"""The reduced audit while training: what it logs, the best checkpoint, and the stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.command import ddrl, write_recipe

PANEL = ["evaluation.panel_samples=20", "evaluation.every=1", "evaluation.samples_per_prompt=4"]
HACK = ["objective.regularizer=none", "optimizer.learning_rate=0.02", "guard.max_ratio=0"]


def read_metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_that_is_not_hacked_marks_its_best_checkpoint(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    recipe.write_text(recipe.read_text() + '\n[[evaluation.reward]]\nname = "classifier"\n')
    assert ddrl("train", recipe, *PANEL).code == 0
    run, lines = tmp_path / "run", read_metrics(tmp_path / "run")
    for line in lines:
        assert {"audit/reward", "audit/vendi", "audit/pixels", "heldout_loss_change"} <= set(line)
        assert {"audit/held_out/classifier", "audit/held_out/judge_accuracy"} <= set(line)
        assert line["audit/hacked"] == 0.0
    scored = {int(line["step"]): line["audit/score"] for line in lines if "audit/score" in line}
    marked = json.loads((run / "checkpoints" / "best.json").read_text())
    best = max(scored, key=lambda step: scored[step])
    assert (marked["step"], marked["score"]) == (best, scored[best])
    assert (run / "checkpoints" / f"step-{best:08d}").is_dir()
    assert [line["step"] for line in lines if line["audit/best"]][-1] == best
    # Commands take it by name.
    result = ddrl("sample", run, "--step", "best", "--num", "1", "--out", tmp_path / "samples")
    assert result.code == 0, result.stderr
    manifest = next((tmp_path / "samples").glob("*.json")).read_text()
    assert f'"step": {best}' in manifest
    report = json.loads(ddrl("evaluate", run, "--step", "best", "--json").stdout)
    assert report["runs"]["run"]["num_steps"] == best


def test_a_run_whose_reward_and_audit_part_is_stopped(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    limit = ["evaluation.drift_limit=0.002", "optimizer.ema=0.5"]
    options = [*PANEL, *HACK, *limit, "evaluation.stop_on_hack=true", "run.steps=30"]
    ddrl("train", recipe, *options).failed(6, "have parted at 2 audits in a row: hacked: ")
    stop = json.loads((tmp_path / "run" / "stopped.json").read_text())
    assert stop["step"] < 30
    lines = read_metrics(tmp_path / "run")
    assert [line["audit/hacked"] for line in lines][-1:] == [1.0]
    assert "audit/score" not in lines[-1]


def test_best_of_a_run_without_audits(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    assert ddrl("train", recipe).code == 0
    run = tmp_path / "run"
    ddrl("sample", run, "--step", "best").failed(5, "no checkpoint that is marked as the best")
    assert ddrl("sample", run, "--step", "first").code == 2
