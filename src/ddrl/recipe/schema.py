"""All sections of a recipe side by side: what rules are about."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from ddrl.recipe.sections.base import Section, as_tuple
from ddrl.recipe.sections.data import DataSection
from ddrl.recipe.sections.model import ModelSection
from ddrl.recipe.sections.rewards import RewardSection, ScoringSection
from ddrl.recipe.sections.run import (
    EvaluationSection,
    GuardSection,
    ObjectiveSection,
    OptimizerSection,
    RolloutSection,
    RunSection,
)


class Fields(Section):
    """Every section of a recipe, not checked against each other."""

    model: ModelSection = Field(default_factory=ModelSection, description="The model.")
    data: DataSection = Field(default_factory=DataSection, description="The data.")
    reward: Annotated[tuple[RewardSection, ...], BeforeValidator(as_tuple)] = Field(
        min_length=1, description="The rewards.", examples=['name = "classifier"']
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
        default_factory=EvaluationSection, description="What is measured in addition to the reward."
    )
    guard: GuardSection = Field(default_factory=GuardSection, description="What stops the run.")
    run: RunSection = Field(default_factory=RunSection, description="Length, place and machine.")
