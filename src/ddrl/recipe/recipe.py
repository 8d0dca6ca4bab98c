"""The recipe: all sections of a run, checked against each other."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from ddrl.recipe.rules.together import find_conflict
from ddrl.recipe.schema import Fields

CONFLICT = "recipe_conflict"
"""Type of the validation error for keys that don't go together; its context has keys and hint."""


class Recipe(Fields):
    """What a run is.

    Example:
        >>> Recipe(reward=(RewardSection(name="classifier"),)).rollout.steps
        10
    """

    @model_validator(mode="after")
    def _check_keys_together(self) -> Self:
        conflict = find_conflict(self)
        if conflict is not None:
            raise PydanticCustomError(
                CONFLICT,
                "{message} (hint: {hint})",
                {
                    "keys": ",".join(conflict.keys),
                    "message": conflict.message,
                    "hint": conflict.hint,
                },
            )
        return self
