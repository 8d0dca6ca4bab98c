"""``ddrl explain``: every key of a recipe, by its name, its last part or its section."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.cli.command import ddrl

from ddrl.recipe.reading.keys import key_specs


def told(*arguments: str) -> list[dict[str, Any]]:
    result = ddrl("explain", *arguments, "--json")
    assert result.code == 0, result.stderr
    keys: list[dict[str, Any]] = json.loads(result.stdout)["keys"]
    return keys


def test_one_key_as_a_reader_sees_it() -> None:
    result = ddrl("explain", "run.micro_batch")
    assert result.code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "run.micro_batch"
    assert lines[1].strip() == key_specs()["run.micro_batch"].description
    assert "  takes      a whole number of at least 0" in lines
    assert "  default    0" in lines
    assert "  on resume  may change; the last bits of the result may differ" in lines
    assert any(line.strip().startswith("8: sd35_medium_24gb, sd35_medium_ocr") for line in lines)


@pytest.mark.parametrize(
    "name", ["objective.beta", "beta", "objective.beta=0.3", " objective.beta "]
)
def test_one_key_has_several_spellings(name: str) -> None:
    assert [row["key"] for row in told(name)] == ["objective.beta"]


def test_lists_of_rewards_stand_with_or_without_a_position() -> None:
    assert told("reward.0.weight") == told("reward.weight")
    assert told("evaluation.reward.12.name")[0]["key"] == "evaluation.reward.name"
    row = told("reward.name")[0]
    assert row["default"] is None
    assert row["set_by"]["digits"] == '"classifier"'
    assert "compare/digits" not in row["set_by"]


@pytest.mark.parametrize("section", ["model.lora", "[model.lora]", "[[reward]]", "evaluation"])
def test_a_section_lists_its_keys(section: str) -> None:
    name = section.strip("[]")
    keys = [row["key"] for row in told(section)]
    assert keys == [key for key in key_specs() if key.startswith(f"{name}.")]
    table = ddrl("explain", section).stdout
    assert all(key in table for key in keys)


def test_a_last_part_that_several_sections_have() -> None:
    assert [row["key"] for row in told("guidance")] == [
        key for key in key_specs() if key.endswith(".guidance")
    ]


@pytest.mark.parametrize("key", key_specs())
def test_every_key_is_explained(key: str) -> None:
    (row,) = told(key)
    assert row["meaning"]
    assert row["takes"]
    assert row["on_resume"]


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("optimizer.learning_rate", "can't change: it is another run"),
        ("run.steps", "may change, unless the learning rate or the synthetic data follow it"),
        ("evaluation.every", "may change"),
        ("reward.timeout", "may change"),
    ],
)
def test_what_a_resume_may_change(key: str, rule: str) -> None:
    assert told(key)[0]["on_resume"] == rule


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("objectiv.betta", "did you mean objective.beta?"),
        ("learningrate", "did you mean learning_rate?"),
        ("modell", "did you mean model?"),
        ("xyzzy", "sections are model, model.lora"),
        ("", "sections are"),
        ("\x1b[2J", "sections are"),
        (".", "sections are"),
    ],
)
def test_what_no_recipe_has(name: str, hint: str) -> None:
    result = ddrl("explain", name)
    result.failed(2, hint)
    assert "\x1b" not in result.stderr
