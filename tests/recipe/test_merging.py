"""When a rollout has weights of its own, and when ratios start from the update's own passes."""

from __future__ import annotations

import pytest

from ddrl.recipe import parse_recipe

PIPELINE = """
[model]
family = "diffusers"
path = "somewhere/something"
[data]
source = "files"
path = "media"
[[reward]]
name = "ink"
"""
LORA = "model.lora.rank=4"
HALF = ("run.precision=bfloat16", "model.dtype=bfloat16")
REFERENCE = ("objective.regularizer=reference", "objective.kl_in_return=true")


@pytest.mark.parametrize(
    ("overrides", "merges", "without_autocast", "own_ratio"),
    [
        ((), False, False, False),
        ((LORA,), True, False, True),
        ((LORA, *HALF), True, True, True),
        ((LORA, "run.precision=bfloat16"), True, False, True),
        ((LORA, "rollout.merge=never"), False, False, False),
        ((LORA, *HALF, "rollout.merge=never"), False, False, False),
        ((LORA, "objective.updates_per_rollout=2"), False, False, False),
        ((LORA, "objective.updates_per_rollout=2", "rollout.merge=always"), True, False, True),
        ((LORA, *REFERENCE), False, False, False),
        ((LORA, "objective.policy=none"), False, False, False),
        (("run.precision=bfloat16",), True, False, False),
        (("run.precision=bfloat16", *REFERENCE), True, False, False),
        (("run.precision=bfloat16", "objective.updates_per_rollout=2"), True, False, False),
        (("run.precision=bfloat16", "model.compile=true"), True, False, True),
        (("run.precision=bfloat16", "run.steps_per_pass=2"), True, False, True),
        (("model.compile=true", "run.steps_per_pass=2"), False, False, False),
        ((LORA, *HALF, "model.family=package.module:Class"), True, False, True),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else str(value)[0],
)
def test_a_pipeline(
    overrides: tuple[str, ...], merges: bool, without_autocast: bool, own_ratio: bool
) -> None:
    recipe = parse_recipe(PIPELINE, overrides=list(overrides))
    found = (recipe.merges, recipe.draws_without_autocast, recipe.has_own_ratio)
    assert found == (merges, without_autocast, own_ratio)


def test_the_embedded_model_has_nothing_to_merge() -> None:
    recipe = parse_recipe('[[reward]]\nname = "ink"\n', overrides=["run.precision=bfloat16"])
    assert (recipe.merges, recipe.has_own_ratio) == (False, False)
