"""The recipe: all sections of a run, checked against each other."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ddrl.recipe.checks import find_conflict
from ddrl.recipe.scoring import RewardSection, ScoringSection
from ddrl.recipe.sections import (
    EvaluationSection,
    GuardSection,
    HeldoutRewardSection,
    Kernel,
    ObjectiveSection,
    OptimizerSection,
    RolloutSection,
    RunSection,
    Section,
    StepSelection,
    as_tuple,
)
from ddrl.recipe.subject import (
    DataSection,
    LoRASection,
    ModelSection,
    PretrainSection,
    SyntheticSection,
)

__all__ = [
    "CONFLICT",
    "DataSection",
    "EvaluationSection",
    "GuardSection",
    "HeldoutRewardSection",
    "Kernel",
    "LoRASection",
    "ModelSection",
    "ObjectiveSection",
    "OptimizerSection",
    "PretrainSection",
    "Recipe",
    "RewardSection",
    "RolloutSection",
    "RunSection",
    "ScoringSection",
    "Section",
    "StepSelection",
    "SyntheticSection",
]

CONFLICT = "recipe_conflict"
"""Type of the validation error for keys that don't go together; its context has keys and hint."""


class Recipe(Section):
    """What a run is.

    Examples:
        >>> Recipe(reward=(RewardSection(name="classifier"),)).rollout.steps
        10
    """

    model: ModelSection = Field(default_factory=ModelSection, description="The model.")
    data: DataSection = Field(default_factory=DataSection, description="The data.")
    reward: Annotated[tuple[RewardSection, ...], BeforeValidator(as_tuple)] = Field(
        min_length=1, description="The rewards."
    )
    scoring: ScoringSection = Field(
        default_factory=ScoringSection,
        description="How rewards become one, and what happens when one fails.",
    )
    rollout: RolloutSection = Field(default_factory=RolloutSection, description="The sampler.")
    objective: ObjectiveSection = Field(default_factory=ObjectiveSection, description="The loss.")
    optimizer: OptimizerSection = Field(
        default_factory=OptimizerSection, description="The optimizer."
    )
    evaluation: EvaluationSection = Field(
        default_factory=EvaluationSection, description="What is measured beside the reward."
    )
    guard: GuardSection = Field(default_factory=GuardSection, description="What stops the run.")
    run: RunSection = Field(default_factory=RunSection, description="Length, place and machine.")

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
