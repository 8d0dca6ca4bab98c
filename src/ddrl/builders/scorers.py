"""The rewards of a recipe, and how they are called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ddrl.builders.keys import cache_key, class_code, stamps
from ddrl.builders.tasks.task import Task
from ddrl.errors import RewardError
from ddrl.recipe.recipe import Recipe
from ddrl.recipe.sections.rewards import HeldoutRewardSection, RewardSection
from ddrl.rewards.base import GroupReward, Reward, make_reward
from ddrl.rewards.level import is_group_level
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.cache import RewardCache
from ddrl.rewards.scoring.scorer import Scorer

FORMAT = "ddrl-reward-cache/1"  # part of every name: raise it when what is kept changes


def build_scorer(task: Task) -> Scorer:
    """The rewards of the recipe.

    Args:
        task: whose recipe's.

    Raises:
        RewardError: a reward can't be had.
        DataError: its cache can't be used.
    """
    recipe = task.recipe
    rewards = [_weighted(task, one, weight=one.weight) for one in recipe.reward]
    return Scorer(
        rewards,
        on_failure=recipe.scoring.on_failure,
        max_failed_share=recipe.scoring.max_failed_share,
        combination=recipe.scoring.combine,
        kappa=recipe.scoring.kappa,
    )


def build_heldout(task: Task) -> Scorer | None:
    """The held-out rewards, if any, for :meth:`~ddrl.rewards.scoring.scorer.Scorer.measure`.

    Args:
        task: whose recipe's.

    Raises:
        RewardError: a reward can't be had.
        DataError: its cache can't be used.
    """
    sections = task.recipe.evaluation.reward
    rewards = [_weighted(task, one, table="[[evaluation.reward]]") for one in sections]
    return Scorer(rewards) if rewards else None


def _weighted(
    task: Task,
    section: RewardSection | HeldoutRewardSection,
    *,
    weight: float = 1.0,
    table: str = "[[reward]]",
) -> WeightedReward:
    options = task.options(section)
    reward = make_reward(section.name, options)
    cache = None
    if section.cache and not is_group_level(reward):
        # A reward that settles an option by itself scores as if the recipe had said so.
        settled = {**options, **getattr(reward, "settled", {})}
        cache = RewardCache(_cache_path(task.recipe, section.name, settled, reward))
    elif section.cache:
        raise RewardError(
            f"Reward {section.title!r} looks at whole groups, so it can't have a cache, which "
            "keeps results by sample.",
            hint="set cache = false in its section",
        )
    return WeightedReward(
        section.title,
        reward,
        weight,
        timeout=section.timeout,
        retries=section.retries,
        samples_per_call=section.samples_per_call,
        cache=cache,
        table=table,
    )


def _cache_path(
    recipe: Recipe, name: str, options: Mapping[str, object], reward: Reward | GroupReward
) -> Path:
    """The file of a reward's results, by all that is known of it."""
    key = reward_key(name, options, type(reward))
    return Path(recipe.run.cache) / "rewards" / f"{key[:32]}.sqlite"


def reward_key(name: str, options: Mapping[str, object], cls: type) -> str:
    """The key of what a reward makes of a sample: options, weights and code.

    Args:
        name: as the recipe has it.
        options: all of them.
        cls: the reward's class.
    """
    weights = {option: [value, stamps(value)] for option, value in options.items()}
    hub = getattr(getattr(cls, "card", None), "hub", "")
    return cache_key("reward", FORMAT, name, weights, stamps(hub), code=class_code(cls))
