from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError
from tests.recipe.texts import recipe

from ddrl.recipe import Recipe
from ddrl.recipe.reading.keys import key_specs, section_names
from ddrl.recipe.sections.rewards import RewardSection

SECTIONS = [
    "model",
    "data",
    "reward",
    "scoring",
    "rollout",
    "objective",
    "optimizer",
    "evaluation",
    "guard",
    "run",
]


def test_sections() -> None:
    assert list(Recipe.model_fields) == SECTIONS
    assert set(section_names()) == {
        *SECTIONS,
        "evaluation.reward",
        "model.lora",
        "model.pretrain",
        "data.synthetic",
    }


def test_a_recipe_needs_nothing_but_a_reward() -> None:
    made = Recipe(reward=(RewardSection(name="classifier"),))
    assert made == recipe()
    assert made.model.pretrain.steps == 3000
    assert made.rollout.trained_steps == "all"


def test_every_key_says_what_it_is_in_a_sentence() -> None:
    for spec in key_specs().values():
        assert spec.description.endswith("."), spec.key
        assert spec.expected, spec.key


def test_nothing_can_be_changed_afterwards() -> None:
    made = recipe()
    parts: list[BaseModel] = [made, made.model.pretrain, made.reward[0], made.rollout]
    for part in parts:
        name = next(iter(type(part).model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, name, getattr(part, name))


def test_lists_become_tuples() -> None:
    made = recipe("rollout.trained_steps=[0, 2]", "rollout.stochastic_steps=[0, 1, 2]")
    assert made.rollout.trained_steps == (0, 2)
    assert made.rollout.stochastic_steps == (0, 1, 2)
    assert isinstance(made.reward, tuple)


def test_a_whole_number_will_do_for_a_number_and_becomes_one() -> None:
    made = Recipe.model_validate({"reward": [{"name": "a", "weight": 2}]})
    assert type(made.reward[0].weight) is float


def test_options_keep_their_types() -> None:
    options: dict[str, str | int | float | bool] = {"a": True, "b": 1, "c": 1.0, "d": "1"}
    made = Recipe.model_validate({"reward": [{"name": "a", "options": options}]})
    assert {name: type(value) for name, value in made.reward[0].options.items()} == {
        "a": bool,
        "b": int,
        "c": float,
        "d": str,
    }


def test_a_conflict_is_found_without_a_file_too() -> None:
    with pytest.raises(ValidationError, match=r"objective\.beta is 0.*hint: give beta"):
        Recipe.model_validate({"reward": [{"name": "a"}], "objective": {"beta": 0}})
