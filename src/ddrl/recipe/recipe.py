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

    @property
    def merges(self) -> bool:
        """Whether rollouts are drawn with weights made once for each: see ``rollout.merge``."""
        merge, has_adapter = self.rollout.merge, self.model.lora.is_used
        if self.model.is_embedded or self.objective.policy == "none" or merge == "never":
            return False
        # The reference's velocity, which is asked for between, is that without the adapter.
        if self.objective.kl_in_return and has_adapter:
            return False
        if not has_adapter:  # casts alone, which change no number
            return self.run.precision == "bfloat16"
        return merge == "always" or self.objective.updates_per_rollout == 1

    @property
    def draws_without_autocast(self) -> bool:
        """Whether these weights all are bfloat16, so that nothing has to be cast.

        A family of the user's own may need the casts that autocast makes.
        """
        is_half = self.model.dtype == "bfloat16" and self.model.lora.is_used
        return self.merges and is_half and not self.model.own_family

    @property
    def has_own_ratio(self) -> bool:
        """Whether an update computes otherwise than the rollout did, beyond float32's rounding."""
        folds = self.run.steps_per_pass > 1
        is_other = self.run.precision == "bfloat16" and (self.model.compile or folds)
        return (self.merges and self.model.lora.is_used) or is_other
