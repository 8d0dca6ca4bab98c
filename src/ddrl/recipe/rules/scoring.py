"""The sections on rewards that are trained on, and the rules that tie their keys together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ddrl.recipe.rules.conflict import Conflict
from ddrl.recipe.sections.rewards import RewardSection
from ddrl.recipe.sections.run import Section

if TYPE_CHECKING:
    from ddrl.recipe.schema import Recipe

__all__ = ["RewardSection", "ScoringSection", "scoring_conflicts"]


class ScoringSection(Section):
    """How rewards become one, and what happens when one fails: it never becomes a number."""

    combine: Literal["sum", "normalized", "lower_confidence"] = Field(
        "sum",
        description="Weighted sum of the raw values; or of each reward less its mean and over its "
        "standard deviation in the step; or of these the weighted mean less `kappa` weighted "
        "standard deviations between rewards, for an ensemble.",
    )
    kappa: float = Field(
        1.0,
        ge=0,
        description="Standard deviations between rewards that are taken off their mean "
        "(`lower_confidence` only).",
    )
    on_failure: Literal["drop_sample", "drop_group", "abort"] = Field(
        "abort", description="Leave out the sample, leave out its whole group, or stop the run."
    )
    max_failed_share: float = Field(
        0.25, ge=0, le=1, description="Stop when more than this share of a step's samples fail."
    )
    overlap: bool = Field(
        True,
        description="Score each micro-batch while the next one is rolled out; false = only when "
        "all are, for a device without room for both (`run.micro_batch` only).",
    )


def scoring_conflicts(recipe: Recipe) -> Iterator[Conflict]:
    """The conflicts of how rewards become one."""
    combine, trains = recipe.scoring.combine, recipe.objective.policy != "none"
    if not trains:
        return
    if combine != "sum" and recipe.objective.advantage == "tilt":
        yield Conflict(
            ("scoring.combine", "objective.advantage"),
            "objective.advantage tilt compares rewards with those of the data, but scoring.combine "
            f"{combine} makes them relative to the batch that they are in",
            'set scoring.combine = "sum", or choose the advantage "group", "global" or "center"',
        )
    if combine != "lower_confidence":
        return
    for place, reward in enumerate(recipe.reward):
        if reward.weight < 0:
            yield Conflict(
                (f"reward.{place}.weight", "scoring.combine"),
                f"reward.{place}.weight is {reward.weight}, but scoring.combine lower_confidence "
                "weighs the members of an ensemble",
                "give weights of at least 0, and a reward of which less is better its own option "
                "or class for that",
            )
    if sum(reward.weight != 0 for reward in recipe.reward) < 2:
        yield Conflict(
            ("scoring.combine", "reward.0.weight"),
            "scoring.combine lower_confidence takes off what rewards disagree by, but only one "
            "reward has a weight",
            'give a second reward a weight, or set scoring.combine = "sum"',
        )
