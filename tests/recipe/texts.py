"""Small recipes for these tests."""

from __future__ import annotations

from ddrl.errors import RecipeError
from ddrl.recipe import Recipe, parse_recipe

REWARD = '[[reward]]\nname = "classifier"\n'


def recipe(*overrides: str) -> Recipe:
    """The default recipe with one reward, and overrides."""
    return parse_recipe(REWARD, overrides=overrides)


def failure(text: str, *overrides: str) -> tuple[str, str]:
    """Message and hint of a recipe that must be refused."""
    try:
        parse_recipe(text, origin="a.toml", overrides=overrides)
    except RecipeError as error:
        return error.message, error.hint
    raise AssertionError(f"accepted: {text} {overrides}")
