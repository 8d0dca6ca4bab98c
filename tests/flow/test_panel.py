"""The reduced audit while training: what it logs, the best checkpoint, and the stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.command import contents, ddrl, without_seconds, write_recipe

from ddrl.jobs.evaluate.background import PanelFolder
from ddrl.runs.folder import RunFolder
from ddrl.training.checkpoint import Best, CheckpointFolder
from ddrl.training.logs.sinks import read_metrics

PANEL = ["evaluation.panel_samples=20", "evaluation.every=1", "evaluation.samples_per_prompt=4"]
HACK = ["objective.regularizer=none", "optimizer.learning_rate=0.02", "guard.max_ratio=0"]


def metrics_rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def best_of(run: Path) -> Best | None:
    return CheckpointFolder(run / "checkpoints").best()


def test_a_run_that_is_not_hacked_marks_its_best_checkpoint(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    recipe.write_text(recipe.read_text() + '\n[[evaluation.reward]]\nname = "classifier"\n')
    assert ddrl("train", recipe, *PANEL).code == 0
    run, lines = tmp_path / "run", read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert {"audit/reward", "audit/vendi", "audit/pixels", "heldout_loss_change"} <= set(line)
        assert {"audit/held_out/classifier", "audit/held_out/judge_accuracy"} <= set(line)
        assert line["audit/hacked"] == 0.0
    scored = {int(line["step"]): line["audit/score"] for line in lines if "audit/score" in line}
    best = max(scored, key=lambda step: scored[step])
    assert best_of(run) == Best(best, scored[best])
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
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert lines[-1]["step"] == stop["step"]
    assert [line["audit/hacked"] for line in lines][-2:] == [1.0, 1.0]  # that of the stop, too
    assert "audit/score" not in lines[-1]
    # The same command is stopped by the same audits, which the checkpoint remembers.
    ddrl("train", recipe, *options).failed(6, "have parted at 2 audits in a row: hacked: ")
    again = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [without_seconds(line) for line in again] == [without_seconds(line) for line in lines]


def test_best_of_a_run_without_audits(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    assert ddrl("train", recipe).code == 0
    run = tmp_path / "run"
    ddrl("sample", run, "--step", "best").failed(5, "no checkpoint that is marked as the best")
    assert ddrl("sample", run, "--step", "first").code == 2


BESIDE = [*PANEL, "evaluation.every=2", "evaluation.panel=background"]


def audits(run: Path) -> dict[int, dict[str, Any]]:
    """What each audit found, by its step."""
    return {
        line["step"]: {k: v for k, v in line.items() if k.startswith(("audit/", "heldout"))}
        for line in metrics_rows(run)
        if "audit/hacked" in line
    }


HELD_OUT = '\n[[evaluation.reward]]\nname = "classifier"\n'
PANELS = {
    "drift": ["evaluation.every=2", "evaluation.samples_per_prompt=4"],
    "none": ["evaluation.every=0", "evaluation.samples_per_prompt=4"],
    "inline": [*PANEL, "evaluation.every=2"],
    "background": BESIDE,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run for each way to be measured while it trains; not to be changed."""
    folders = {}
    for name, options in PANELS.items():
        folder = tmp_path_factory.mktemp(name)
        recipe = write_recipe(folder, tmp_path_factory, more=HELD_OUT)
        result = ddrl("train", recipe, *options)
        assert result.code == 0, result.stderr
        folders[name] = folder / "run"
    return folders


def test_beside_training_it_finds_what_it_finds_inline(runs: dict[str, Path]) -> None:
    inline, beside = runs["inline"], runs["background"]
    assert audits(beside) == audits(inline)
    assert list(audits(beside)) == [2, 4]
    assert best_of(inline) == best_of(beside)
    assert best_of(beside) is not None
    weights = [
        contents(run / "checkpoints/step-00000004")["ema.safetensors"] for run in (inline, beside)
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("options", [[], ["--json"], ["--step", "2"], ["--step", "best"]])
def test_every_run_is_evaluated(
    runs: dict[str, Path], panel: str, options: list[str], tmp_path: Path
) -> None:
    """Whatever was measured while it trained, and wherever: rows of audits are not iterations."""
    run = runs[panel]
    result = ddrl("evaluate", run, *options, "--out", tmp_path, "--sheets")
    if options == ["--step", "best"] and panel in ("drift", "none"):
        result.failed(5, "no checkpoint that is marked as the best")
        return
    assert result.code == 0, result.stderr
    assert {"report.html", "report.json", "samples"} <= {path.name for path in tmp_path.iterdir()}
    found = json.loads((tmp_path / "report.json").read_text())["runs"]["run"]
    step = found["num_steps"]
    assert step == {"--step 2": 2, "--step best": best_step(run)}.get(" ".join(options), 4)
    rows = metrics_rows(run)
    # Of the iterations behind these weights, and of each once.
    seconds = sum(row["seconds"] for row in rows if row["step"] <= step and "seconds" in row)
    assert found["seconds"] == pytest.approx(seconds, abs=0.06)
    if "--json" in options:
        assert json.loads(result.stdout)["runs"]["run"] == found


def best_step(run: Path) -> int:
    best = best_of(run)
    return best.step if best else 0


def test_beside_training_it_stops_the_run_too(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    limit = ["evaluation.drift_limit=0.002", "optimizer.ema=0.5"]
    options = [*BESIDE, *HACK, *limit, "evaluation.stop_on_hack=true", "run.steps=30"]
    ddrl("train", recipe, *options).failed(6, "have parted at 2 audits in a row: hacked: ")
    assert json.loads((tmp_path / "run/stopped.json").read_text())["step"] < 30


def test_beside_training_its_failure_is_the_run_s(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    encoder = tmp_path / "nowhere"
    result = ddrl("train", recipe, *BESIDE, f"evaluation.encoder={encoder}")
    result.failed(3, str(encoder), "evaluation.encoder takes a folder")


def test_beside_training_a_process_that_was_killed_is_told(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What the kernel does to a process that takes too much memory."""
    recipe = write_recipe(tmp_path, tmp_path_factory)
    held = '\n[[evaluation.reward]]\nname = "tests.cli.rewards:Kills"\n'
    recipe.write_text(recipe.read_text() + held)
    ddrl("train", recipe, *BESIDE).failed(
        1, "The audit of step 2 ended with exit code -9", "panel/log.txt"
    )


def test_what_a_process_of_a_killed_run_still_writes_is_no_answer(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    stale, now = PanelFolder(run, "12-1"), PanelFolder(run, "34-2")
    stale.path.mkdir()
    now.clear()
    stale.write(stale.result(2), {"metrics": {}, "sentence": ""})
    stale.write(stale.failure, {"kind": "DDRLError"})
    assert not now.result(2).exists()
    assert not now.failure.exists()
    PanelFolder(run, "56-3").clear()
    assert list(stale.path.iterdir()) == []
