"""Recipes for a card of 24 GB: planned with room for what a plan does not count."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddrl.jobs.plan import plan_recipe
from ddrl.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*_24gb.toml"))
MOST = 22 << 30


@pytest.mark.parametrize("name", NAMES)
def test_its_peak_leaves_room_on_the_card(name: str) -> None:
    memory = plan_recipe(load_recipe(RECIPES / f"{name}.toml")).memory
    assert memory.phases
    assert memory.peak[1] < MOST, memory.phases


def test_every_family_of_moderate_size_has_one() -> None:
    assert NAMES == ["cosmos2_24gb", "sd35_medium_24gb", "wan21_1b_24gb"]
