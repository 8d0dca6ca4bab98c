"""Rules on how rewards become one."""

from __future__ import annotations

from collections.abc import Iterator

from ddrl.recipe.rules.conflict import Conflict
from ddrl.recipe.schema import Fields


def scoring_conflicts(recipe: Fields) -> Iterator[Conflict]:
    """Yield the conflicts of how rewards become one."""
    combine, trains = recipe.scoring.combine, recipe.objective.policy != "none"
    if not trains:
        return
    if combine != "sum" and recipe.objective.advantage == "tilt":
        yield Conflict(
            ("scoring.combine", "objective.advantage"),
            "objective.advantage tilt compares rewards with those of the data, but scoring.combine "
            f"{combine} makes them relative to the batch that they are in.",
            'set scoring.combine = "sum", or choose the advantage "group", "global" or "center"',
        )
    if combine != "lower_confidence":
        return
    for place, reward in enumerate(recipe.reward):
        if reward.weight < 0:
            yield Conflict(
                (f"reward.{place}.weight", "scoring.combine"),
                f"reward.{place}.weight is {reward.weight}, but scoring.combine lower_confidence "
                "weighs the members of an ensemble.",
                "give weights of at least 0, and a reward of which less is better its own option "
                "or class for that",
            )
    if sum(reward.weight != 0 for reward in recipe.reward) < 2:
        yield Conflict(
            ("scoring.combine", "reward.0.weight"),
            "scoring.combine lower_confidence takes off what rewards disagree by, but only one "
            "reward has a weight.",
            'give a second reward a weight, or set scoring.combine = "sum"',
        )
