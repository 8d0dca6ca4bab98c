"""A drift budget through the command line: beta moves, is logged, and survives a stop."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.command import ddrl, metrics_of, write_recipe

from ddrl.objective.advantage import STD_FLOOR

BUDGET = ["objective.drift_budget=0.03", "objective.drift_budget_every=2", "objective.beta=0.5"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("budget")
    recipe = write_recipe(folder, tmp_path_factory)
    result = ddrl("train", recipe, *BUDGET, "run.steps=6")
    assert result.code == 0, result.stderr
    return folder / "run"


def test_beta_is_corrected_and_used(straight: Path) -> None:
    lines = metrics_of(straight)
    betas = [line["beta"] for line in lines if "beta" in line]
    assert len(betas) == 3
    assert betas[0] != 0.5
    used = [line["effective_beta"] for line in lines]
    # Advantages in standard deviations, which are kept from 0, give beta the reward's unit.
    stds = [line["reward_std"] + STD_FLOOR for line in lines]
    expected = [beta * std for beta, std in zip([0.5, 0.5, betas[0]], stds, strict=False)]
    assert used[:3] == pytest.approx(expected, rel=1e-5)


def test_a_resumed_run_is_the_straight_one(
    straight: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    assert ddrl("train", recipe, *BUDGET, "run.steps=3").code == 0
    assert ddrl("train", recipe, *BUDGET, "run.steps=6").code == 0
    assert metrics_of(tmp_path / "run") == metrics_of(straight)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.regularizer=none", "regularizer is none, which has none"),
        ("objective.policy=none", "weighs data against reward"),
        ("objective.advantage=tilt", "depends on beta itself"),
    ],
)
def test_budgets_without_effect_are_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, override: str, message: str
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    result = ddrl("train", recipe, *BUDGET, override)
    assert result.code == 2
    assert message in result.stderr
