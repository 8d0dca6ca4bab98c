"""``[[evaluation.reward]]``: rewards that training never sees."""

from __future__ import annotations

import pytest
from tests.recipe.texts import REWARD, failure, recipe

from ddrl.recipe import dump_toml, parse_recipe
from ddrl.recipe.reading.toml import line_numbers

HELD_OUT = '[[evaluation.reward]]\nname = "ink"\n[evaluation.reward.options]\nscale = 2.0\n'
SECOND = '[[evaluation.reward]]\nname = "a.b:C"\n'


def test_reads_dumps_and_overrides() -> None:
    made = parse_recipe(REWARD + HELD_OUT + SECOND, overrides=["evaluation.reward.1.name=other"])
    assert [reward.name for reward in made.evaluation.reward] == ["ink", "other"]
    assert made.evaluation.reward[0].options == {"scale": 2.0}
    assert parse_recipe(dump_toml(made)) == made
    changed = parse_recipe(REWARD + HELD_OUT, overrides=["evaluation.reward.0.options.a.b=3"])
    assert changed.evaluation.reward[0].options == {"scale": 2.0, "a": {"b": 3}}


def test_none_is_no_key_so_that_one_can_be_added_to_a_dump() -> None:
    text = dump_toml(recipe())
    assert "evaluation.reward" not in text
    assert parse_recipe(text + HELD_OUT).evaluation.reward[0].name == "ink"


def test_lines_of_the_list() -> None:
    lines = line_numbers(REWARD + HELD_OUT + SECOND)
    assert lines["evaluation", "reward", 0, "options", "scale"] == 6
    assert lines["evaluation", "reward", 1, "name"] == 8


@pytest.mark.parametrize(
    ("text", "overrides", "message", "hint"),
    [
        (
            '[[evaluation.reward]]\nname = "classifier"\n',
            [],
            "a.toml:4: Reward classifier is trained on, so it can't be held out",
            "hold out another",
        ),
        (HELD_OUT + HELD_OUT, [], "a.toml:8: Held-out reward ink is in the recipe twice", "one"),
        (
            HELD_OUT + "[evaluation.reward.options.x]\ny=12:00:00\n",
            [],
            "options.x.y is a date or time",
            "quotes",
        ),
        ("[[evaluation.reward]]\nweight = 1.0\n", [], "Unknown key evaluation.reward.0.weight", ""),
        ("[evaluation.reward]\nname = 'a'\n", [], "must be a list", "[[evaluation.reward]]"),
        (HELD_OUT, ["evaluation.reward.name=x"], "Rewards are a list", "evaluation.reward.0.name"),
        (HELD_OUT, ["evaluation.reward.1.name=x"], "There is no reward 1", "evaluation.reward.0"),
        ("", ["evaluation.reward.0.name=x"], "There is no reward 0", "[[evaluation.reward]]"),
        (HELD_OUT, ["evaluation.reward=1"], "is a section", "evaluation.reward.0.name"),
    ],
)
def test_refused(text: str, overrides: list[str], message: str, hint: str) -> None:
    found, tip = failure(REWARD + text, *overrides)
    assert message in found
    assert hint in tip


def test_the_same_reward_with_other_options_may_be_held_out() -> None:
    held_out = HELD_OUT.replace("ink", "classifier")
    made = parse_recipe(REWARD + held_out.replace("scale = 2.0", 'weights = "w"'))
    assert made.evaluation.reward[0].options == {"weights": "w"}


@pytest.mark.parametrize("wish", ["stop_on_hack=true", "panel=background"])
@pytest.mark.parametrize(
    ("overrides", "key"),
    [([], "panel_samples"), (["evaluation.panel_samples=8", "evaluation.every=0"], "every")],
)
def test_a_run_that_audits_nothing_can_not_be_told_how(
    overrides: list[str], key: str, wish: str
) -> None:
    message, hint = failure(REWARD, f"evaluation.{wish}", *overrides)
    assert f"but evaluation.{key} is 0: nothing is audited" in message
    assert f"set evaluation.{key}" in hint
