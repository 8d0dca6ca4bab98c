"""What stands for data: which modes go with which data, and what a resume may change."""

from __future__ import annotations

import pytest
from tests.recipe.texts import REWARD, failure, recipe

from ddrl.recipe import resume_conflicts
from ddrl.recipe.rules.anchors import needs_data, needs_synthetic

PROMPTS = ["model.family=diffusers", "model.path=m", "data.source=prompts", "data.path=p.txt"]


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        (PROMPTS, "data.anchor is paired, but data.source prompts has no media", '"synthetic"'),
        (
            [*PROMPTS, "data.anchor=mixed"],
            "data.anchor is mixed, but data.source prompts has no media",
            'data.source = "files"',
        ),
        (
            [*PROMPTS, "objective.regularizer=none", "objective.advantage=tilt"],
            "data.anchor is paired, but data.source prompts has no media",
            '"synthetic"',
        ),
        ([*PROMPTS[:3], "data.path="], "data.source is prompts, but data.path", "a prompt a line"),
        (["data.source=prompts"], "model.family tiny can't be trained on", "files, hub or prompts"),
        (
            ["data.anchor=mixed", "data.anchors_per_group=1"],
            "data.anchor mixed needs two data samples per group",
            "data.anchors_per_group to 2 or more",
        ),
        (
            ["data.anchor=mixed", "objective.advantage=tilt"],
            "objective.advantage tilt takes Z from data of one kind",
            "another advantage",
        ),
        (
            ["data.synthetic_share=0.3"],
            "data.synthetic_share is 0.3, but data.anchor is paired",
            '"mixed"',
        ),
        (
            ["data.synthetic_share=0.3", "data.anchor=synthetic"],
            "data.synthetic_share is 0.3, but data.anchor is synthetic",
            "leave data.synthetic_share out",
        ),
        (
            ["data.anchor=synthetic", "data.synthetic.steps=5", "rollout.stochastic_steps=[0, 1]"],
            "data.synthetic.steps is 5, but rollout.stochastic_steps names steps of 10",
            '"ode"',
        ),
        (
            ["data.synthetic.keep=0.5", "reward.0.weight=0", "objective.policy=none"],
            "data.synthetic.keep is 0.5, but every reward has weight 0",
            "leave data.synthetic.keep out",
        ),
    ],
)
def test_what_is_refused(overrides: list[str], message: str, hint: str) -> None:
    found = failure(REWARD, *overrides)
    assert message in found[0]
    assert hint in found[1]


@pytest.mark.parametrize(
    "overrides",
    [
        [*PROMPTS, "data.anchor=synthetic"],
        [*PROMPTS, "objective.regularizer=none"],
        [*PROMPTS, "objective.regularizer=reference"],
        ["data.anchor=mixed", "data.synthetic_share=0.3"],
        ["data.anchor=synthetic", "objective.advantage=tilt"],
        ["data.anchor=synthetic", "objective.policy=none"],
        ["data.anchor=synthetic", "objective.policy=none", "data.synthetic.keep=0.5"],
        ["data.synthetic.keep=0.5"],  # `ddrl data synthesize --out` writes them all the same
        ["data.anchor=synthetic", "rollout.stochastic_steps=[0, 1]"],
        [
            *("data.anchor=synthetic", "data.synthetic.sampler=ode"),
            *("data.synthetic.steps=5", "rollout.stochastic_steps=[0, 1]"),
        ],
    ],
)
def test_what_is_not(overrides: list[str]) -> None:
    recipe(*overrides)


@pytest.mark.parametrize("share", ["0", "1", "-0.1", "1.5"])
def test_a_share_is_between_none_and_all(share: str) -> None:
    assert "data.synthetic_share" in failure(REWARD, f"data.synthetic_share={share}")[0]


@pytest.mark.parametrize("wrong", ["keep=0", "keep=1.1", "keep=-0.5", "per_prompt=-1"])
def test_what_is_kept_is_a_share_above_none(wrong: str) -> None:
    found = failure(REWARD, f"data.synthetic.{wrong}")[0]
    assert f"data.synthetic.{wrong.partition('=')[0]}" in found


def test_who_looks_at_data() -> None:
    assert needs_data(recipe())
    assert not needs_data(recipe("objective.regularizer=none"))
    assert needs_data(recipe("objective.regularizer=none", "objective.advantage=tilt"))
    assert not needs_synthetic(recipe())
    for anchor in ("synthetic", "mixed"):
        assert needs_synthetic(recipe(f"data.anchor={anchor}"))
        assert not needs_synthetic(recipe(f"data.anchor={anchor}", "objective.regularizer=none"))


def test_the_solver_is_a_part_of_a_run_whose_anchors_it_makes() -> None:
    ode = ("data.anchor=synthetic", "data.synthetic.sampler=ode")
    changed = ("evaluation.steps=7", "evaluation.solver=euler", "evaluation.seed=3")
    found = resume_conflicts(recipe(*ode), recipe(*ode, *changed))
    assert [line.partition(":")[0] for line in found] == ["evaluation.steps", "evaluation.solver"]
    own = (*ode, "data.synthetic.steps=9")
    (line,) = resume_conflicts(recipe(*own), recipe(*own, *changed))
    assert line.startswith("evaluation.solver:")
    for before in (("data.anchor=synthetic",), ("data.synthetic.sampler=ode",)):
        assert resume_conflicts(recipe(*before), recipe(*before, *changed)) == []
    (line,) = resume_conflicts(recipe(*ode), recipe(*ode, "data.synthetic.seed=1"))
    assert line.startswith("data.synthetic.seed:")


def test_the_length_of_a_run_is_a_part_of_it_where_it_sets_the_number_of_anchors() -> None:
    longer = "run.steps=300"
    for anchor in ("synthetic", "mixed"):
        follows = f"data.anchor={anchor}"
        (line,) = resume_conflicts(recipe(follows), recipe(follows, longer))
        assert line.startswith("run.steps: 150 -> 300, with data.synthetic.per_prompt = 0")
        assert resume_conflicts(recipe(follows), recipe(follows, "evaluation.every=7")) == []
        fixed = (follows, "data.synthetic.per_prompt=9")
        assert resume_conflicts(recipe(*fixed), recipe(*fixed, longer)) == []
        cosine = (follows, "optimizer.schedule=cosine")
        assert len(resume_conflicts(recipe(*cosine), recipe(*cosine, longer))) == 1
        unused = (follows, "objective.regularizer=none")
        assert resume_conflicts(recipe(*unused), recipe(*unused, longer)) == []
    assert resume_conflicts(recipe(), recipe(longer)) == []
    (line,) = resume_conflicts(
        recipe("data.anchor=synthetic"), recipe("data.anchor=synthetic", "data.synthetic.keep=0.5")
    )
    assert line.startswith("data.synthetic.keep:")
