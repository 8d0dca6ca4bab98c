"""The default job reaches what its page says. Minutes: `make test-slow`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from ddrl.evaluation.measures.result import RunResult
from ddrl.jobs.evaluate.audit import evaluate_runs
from ddrl.jobs.train.trainer import build_job
from ddrl.recipe import dump_toml, load_recipe
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.logs.sinks import JSONLSink
from ddrl.training.loop import train

ROOT = Path(__file__).parents[2]
METHODS = {
    "ddrl": [],
    "none": ["objective.regularizer=none"],
    "reference": ["objective.regularizer=reference"],
    "sft": ["objective.policy=none"],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    folder = tmp_path_factory.mktemp("digits")
    for name, overrides in METHODS.items():
        where = [f"run.folder={folder / name}", f"run.cache={folder / 'cache'}", "run.seed=3"]
        recipe = load_recipe(ROOT / "recipes/digits.toml", [*overrides, *where])
        job = build_job(recipe)
        (folder / name).mkdir()
        (folder / name / "recipe.toml").write_text(dump_toml(recipe))
        with closing(JSONLSink(folder / name / "metrics.jsonl")) as sink:
            train(
                job.trainer,
                recipe.run.steps,
                sinks=[sink],
                checkpoints=CheckpointFolder(folder / name / "checkpoints"),
            )
    report = evaluate_runs([folder / name for name in METHODS])
    return {run.name: run for run in report.runs}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_regularizer_hacks(results: dict[str, RunResult]) -> None:
    hacked, base = results["none"], results["base"]
    assert hacked.frechet.value > 4 * base.frechet.value
    assert hacked.drift.value > 0.40
    assert hacked.diversity.value < 0.75


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ddrl_learns_and_does_not_hack(results: dict[str, RunResult]) -> None:
    ddrl, base = results["ddrl"], results["base"]
    assert ddrl.judge_accuracy.value > 0.85
    assert ddrl.frechet.value < base.frechet.value
    assert ddrl.diversity.value > 0.85
    assert ddrl.drift.value < 0.05
    for other in ("sft", "reference"):
        assert ddrl.judge_accuracy.value >= results[other].judge_accuracy.value + 0.05
