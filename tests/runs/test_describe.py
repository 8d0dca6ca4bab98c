"""Runs in words: which method a recipe is, the curves of its metrics, the commands."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import cast

import pytest
from tests.evaluation.example_report import example_report

from ddrl.recipe import parse_recipe
from ddrl.runs.describe import curves, distinct_labels, label, method, reproduce
from ddrl.runs.loaded import LoadedRun

RECIPE = '[[reward]]\nname = "ink"\nlabel = "ink_1"\n'


@pytest.mark.parametrize(
    ("overrides", "called", "line"),
    [
        ([], "DDRL", "Reward (ink_1) and data, beta 1"),
        (
            ["objective.regularizer=reference", "objective.beta=0.25"],
            "Reverse KL",
            "Reward (ink_1) and reference model, beta 0.25",
        ),
        (["objective.regularizer=none"], "No regularizer", "Reward alone (ink_1)"),
        (["objective.policy=none"], "Supervised fine-tuning", "Data alone, no reward"),
        (
            ["data.anchor=synthetic"],
            "DDRL",
            "Reward (ink_1) and samples of the base, beta 1",
        ),
        (
            ["data.anchor=mixed"],
            "DDRL",
            "Reward (ink_1) and data and samples of the base, beta 1",
        ),
    ],
)
def test_a_method_in_words(overrides: list[str], called: str, line: str) -> None:
    recipe = parse_recipe(RECIPE, overrides=["objective.beta=1", *overrides])
    assert label(recipe) == called
    assert method(recipe) == line


def test_a_teacher_is_told() -> None:
    recipe = parse_recipe(RECIPE)
    data = recipe.data.model_copy(update={"target": "teacher"})
    taught = recipe.model_copy(update={"data": data})
    assert "and its start on data, beta" in method(taught)


def test_runs_of_one_method_are_told_apart() -> None:
    base, run, *_ = example_report().runs
    alone = distinct_labels([base, run])
    assert [one.label for one in alone] == [base.label, run.label]
    twice = distinct_labels([base, run, run])
    assert [one.label for one in twice] == [base.label, *[f"{run.label} ({run.name})"] * 2]


def test_curves_have_every_iteration_and_start_at_the_base() -> None:
    rows = [
        {"step": 1, "reward": 0.5},
        {"step": 2, "reward": 0.75, "heldout_loss_change": 0.01},
        {"step": 3, "heldout_loss_change": 0.02},
    ]
    found = curves(rows)
    assert (found.steps, found.rewards) == ((1, 2), (0.5, 0.75))
    assert found.evaluations == ((0, 0.0), (2, 0.01), (3, 0.02))


def test_commands_can_be_pasted() -> None:
    class Run:
        folder = Path("my runs/first")

    text = reproduce([Path("my runs/first")], [cast("LoadedRun", Run())])
    assert [shlex.split(line) for line in text.split("\n")] == [
        ["ddrl", "train", "my runs/first/recipe.toml"],
        ["ddrl", "evaluate", "my runs/first"],
    ]
