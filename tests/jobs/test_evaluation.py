"""The wiring of an audit: what stands beside what, and which runs may stand in one table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.cli.command import ddrl, write_recipe

from ddrl.errors import DataError, UsageError
from ddrl.evaluation.findings.audit import Report, as_json
from ddrl.evaluation.measures.result import RunResult
from ddrl.jobs.evaluate.audit import evaluate_runs
from ddrl.runs.loaded import load_run

HELD_OUT = '\n[[evaluation.reward]]\nname = "classifier"\n'


def train(folder: Path, factory: pytest.TempPathFactory, *overrides: str) -> Path:
    folder.mkdir(exist_ok=True)
    recipe = write_recipe(folder, factory, more=HELD_OUT)
    result = ddrl("train", recipe, *overrides)
    assert result.code == 0, result.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that moved a lot in four steps."""
    folder = tmp_path_factory.mktemp("evaluated")
    return train(
        folder, tmp_path_factory, "objective.regularizer=none", "optimizer.learning_rate=0.02"
    )


@pytest.fixture(scope="module")
def report(run: Path) -> Report:
    return evaluate_runs([run])


def one(report: Report) -> RunResult:
    return next(run for run in report.runs if not run.is_base)


def test_the_base_is_its_own_row(report: Report, run: Path) -> None:
    """Its figures are of the weights before training, and no change of its is anything but 0."""
    base, mine = report.base, one(report)
    assert base.drift.value == 0.0
    assert (base.reward_change.value, base.diversity_change.value) == (0.0, 0.0)
    assert mine.reward.value != base.reward.value
    loaded = load_run(run)
    before = loaded.forward.model.transformer.state_dict()
    with loaded.as_base():
        start = {k: v.clone() for k, v in loaded.forward.model.transformer.state_dict().items()}
    assert any(not torch.equal(before[key], start[key]) for key in start)
    assert (report.samples["base"] != report.samples["run"]).any()


def test_changes_are_of_the_run_less_the_base(report: Report) -> None:
    base, mine = report.base, one(report)
    for figure in ("reward", "diversity", "vendi"):
        after, before = getattr(mine, figure).value, getattr(base, figure).value
        assert getattr(mine, f"{figure}_change").value == pytest.approx(after - before)
    for now, then in zip(mine.measures, base.measures, strict=True):
        assert now.change.value == pytest.approx(now.value.value - then.value.value)


def test_worst_prompts_have_the_base_before_and_the_run_after(run: Path, tmp_path: Path) -> None:
    """Five prompts, which are all shown: their means are those of the table."""
    report = evaluate_runs([other_recipe(run, tmp_path, "prompts = 64", "prompts = 5")])
    base, mine = report.base, one(report)
    assert not base.regressions
    assert sorted(lost.prompt_id for lost in mine.regressions) == [0, 1, 2, 3, 4]
    before, after = np.mean([lost.reward for lost in mine.regressions], axis=0)
    assert before == pytest.approx(base.reward.value)
    assert after == pytest.approx(mine.reward.value)
    for place, name in enumerate(("judge_accuracy", "classifier")):
        pairs = [lost.measures[place] for lost in mine.regressions]
        assert {pair[0] for pair in pairs} == {name}
        assert np.mean([pair[1] for pair in pairs]) == pytest.approx(base.measure(name).value)
        assert np.mean([pair[2] for pair in pairs]) == pytest.approx(mine.measure(name).value)


def test_the_seed_decides_the_samples(run: Path, report: Report, tmp_path: Path) -> None:
    """The same run, evaluated with the same and with another seed."""
    again = evaluate_runs([run])
    assert as_json(again)["runs"] == as_json(report)["runs"]
    other = other_recipe(run, tmp_path, "seed = 1234", "seed = 4321")
    changed = evaluate_runs([other])
    assert changed.base.reward.value != report.base.reward.value
    assert (changed.samples["base"] != report.samples["base"]).any()


def other_recipe(run: Path, folder: Path, old: str, new: str) -> Path:
    """A copy of a run whose recipe has another line."""
    copy = folder / "copy"
    shutil.copytree(run, copy)
    text = (copy / "recipe.toml").read_text()
    assert old in text, text
    (copy / "recipe.toml").write_text(text.replace(old, new))
    return copy


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("guidance = 1.0", "guidance = 2.0", "rollout.guidance"),
        ("seed = 1234", "seed = 1", "evaluation.seed"),
        ("samples_per_prompt = 8", "samples_per_prompt = 9", "evaluation.samples_per_prompt"),
        ("drift_limit = 0.1", "drift_limit = 0.2", "evaluation.drift_limit"),
        ("prompts = 64", "prompts = 9", "evaluation.prompts"),
        ('encoder = "auto"', 'encoder = "other"', "evaluation.encoder"),
        ('precision = "float32"', 'precision = "bfloat16"', "run.precision"),
    ],
)
def test_unequal_runs_are_not_put_in_one_table(
    run: Path, tmp_path: Path, old: str, new: str, said: str
) -> None:
    other = other_recipe(run, tmp_path, old, new)
    with pytest.raises(DataError, match=f"can't stand in one table: .*{said}"):
        evaluate_runs([run, other])


def test_runs_that_differ_in_training_alone_are_compared(
    run: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = train(tmp_path / "other", tmp_path_factory, "objective.beta=0.3", "run.steps=2")
    both = evaluate_runs([run, other])
    assert len(both.runs) == 3
    assert [one.num_steps for one in both.runs] == [0, 4, 2]
    with pytest.raises(UsageError, match="named twice"):
        evaluate_runs([run, run])


def test_json_says_what_every_interval_is_over(report: Report) -> None:
    numbers: dict[str, Any] = json.loads(json.dumps(as_json(report), allow_nan=False))
    assert (numbers["num_prompts"], numbers["num_samples"], numbers["unit"]) == (10, 80, "sample")
    for row in numbers["runs"].values():
        basis = {"unit": "sample", "num_prompts": 10, "num_samples": 80}
        for figure in ("reward", "judge_accuracy", "frechet", "diversity", "vendi"):
            assert row["sampling"][figure] == basis
        assert row["sampling"]["temporal_change"] is None
        assert row["sampling"]["heldout_loss_change"] == {**basis, "num_samples": 597}
        assert row["measures"]["classifier"]["sampling"] == basis
        assert row["pixels"]["contrast"]["sampling"] == basis
        assert set(row["changes"]) == {"reward", "diversity", "vendi", "motion"}


def test_fewer_prompts_than_there_are_are_the_unit(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    part = train(tmp_path / "six", tmp_path_factory, "evaluation.prompts=6", "run.steps=2")
    report = evaluate_runs([part])
    assert report.basis is not None
    assert (report.basis.unit, report.basis.num_prompts) == ("prompt", 6)
    drift = one(report).drift.basis
    assert drift is not None
    assert (drift.unit, drift.num_samples) == ("sample", 597), "all that is held out is measured"


def test_a_report_of_two_pictures_claims_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = ["evaluation.prompts=2", "evaluation.samples_per_prompt=1", "run.steps=2"]
    part = train(tmp_path / "two", tmp_path_factory, *settings)
    result = ddrl("evaluate", part, "--json")
    assert result.code == 0, result.stderr
    row = json.loads(result.stdout)["runs"]["run"]
    for figure in ("reward", "frechet", "judge_accuracy"):
        assert row[figure] is not None
        assert row["intervals"][figure] == [None, None]
    assert row["verdict"]["status"] == "not conclusive"
    page = (part / "evaluation" / "report.html").read_text()
    assert "Each model made 2 samples of 2 prompts" in page
    assert "no interval" in page


def test_what_is_known_of_the_training_stands_beside(report: Report, run: Path) -> None:
    mine = one(report)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    iterations = [row for row in rows if "seconds" in row]
    assert mine.num_steps == len(iterations) == 4
    assert mine.seconds == pytest.approx(sum(row["seconds"] for row in iterations))
    assert mine.curves.steps == (1, 2, 3, 4)
    assert mine.curves.rewards == tuple(row["reward"] for row in iterations)
    assert [step for step, _ in mine.curves.evaluations] == [0, 2, 4]
    assert report.provenance["seeds"] == [0]
    earlier = evaluate_runs([run], step=2)
    assert one(earlier).num_steps == 2
    assert one(earlier).reward.value != mine.reward.value


def test_real_data_are_of_the_prompts_that_they_stand_beside(run: Path, report: Report) -> None:
    loaded = load_run(run)
    real, grid = loaded.corpus.real, report.real
    assert grid is not None
    for prompt in range(10):
        first = int((real.caption_id == prompt).nonzero()[0])
        picture = (real.media[first : first + 1][0].permute(1, 2, 0).numpy() * 255).round()
        assert (np.abs(grid[prompt, 0] - picture) <= 1).all()
    assert report.real_frechet is not None
    assert report.real_frechet > 0.01, "two sets of pictures are never quite alike"


def test_two_runs_each_have_their_own_row(
    run: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of one method and one name, with another timeout and the same mark."""
    options = ["objective.regularizer=none", "run.steps=2", "evaluation.drift_limit=0.2"]
    first = train(tmp_path / "first", tmp_path_factory, *options)
    second = train(
        tmp_path / "base",
        tmp_path_factory,
        *options,
        "optimizer.learning_rate=0.02",
        "reward.0.timeout=77",
    )
    (tmp_path / "last").mkdir()
    named = (tmp_path / "last" / "base").resolve()
    second.rename(named)
    found = evaluate_runs([first, named])
    assert found.drift_limit == 0.2
    base, *mine = found.runs
    assert [one.name for one in mine] == ["run", str(named)]
    assert mine[0].drift.value != mine[1].drift.value
    assert [one.label for one in mine] == [f"No regularizer ({one.name})" for one in mine]
    assert (base.drift.value, base.is_base) == (0.0, True)
    again = other_recipe(first, tmp_path, "drift_limit", "drift_limit")
    same = again.rename(tmp_path / "last" / "run")
    names = [one.name for one in evaluate_runs([first, same]).runs]
    assert names == ["base", str(first), str(same)]
