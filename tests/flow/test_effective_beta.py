"""What the plan and the metrics say of beta, as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.command import ddrl, metrics_of, write_recipe

from ddrl.objective.advantage import STD_FLOOR


def test_guidance_of_0_is_refused(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    result = ddrl("train", recipe, "rollout.guidance=0")
    result.failed(2, "the gradient of the policy term is 0", "set rollout.guidance to 1")


def test_plan_and_metrics_agree_on_beta_with_guidance(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    options = ["rollout.guidance=4", "objective.beta=0.8", "run.steps=1", "evaluation.every=0"]
    plan = ddrl("train", recipe, *options, "--dry-run")
    assert "one effective beta, 0.2, in standard deviations" in plan.stdout
    assert ddrl("train", recipe, *options).code == 0
    (row,) = metrics_of(tmp_path / "run")
    assert row["effective_beta"] == pytest.approx(0.2 * (row["reward_std"] + STD_FLOOR), rel=1e-5)


def test_a_global_advantage_has_the_batch_as_its_unit(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One reward of every sample is known, so that its standard deviation over the batch is."""
    recipe = write_recipe(tmp_path, tmp_path_factory)
    options = ["objective.advantage=global", "objective.beta=0.5", "run.steps=1"]
    assert ddrl("train", recipe, *options, "evaluation.every=0").code == 0
    (row,) = metrics_of(tmp_path / "run")
    expected = 0.5 * (row["reward_std/ink"] + STD_FLOOR)
    assert row["effective_beta"] == pytest.approx(expected, rel=1e-5)
    assert row["effective_beta"] != pytest.approx(0.5 * row["reward_std"], rel=0.01)
