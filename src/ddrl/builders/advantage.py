"""The advantage of a recipe, as a function of one batch's rewards."""

from __future__ import annotations

import torch
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.models.base import DiffusionModel
from ddrl.objective import advantage as adv
from ddrl.recipe import Recipe
from ddrl.records import Advantages
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.training.pool import Pool
from ddrl.training.trainer import AdvantageFunction


def build_advantage(
    recipe: Recipe, scorer: Scorer, pool: Pool, model: DiffusionModel
) -> AdvantageFunction:
    """The advantage of the recipe, with Z per prompt from the data where (A2) asks for it."""
    section = recipe.objective
    partition = (
        _partition(recipe, scorer, pool, model) if section.advantage == "tilt" else torch.empty(0)
    )

    def advantage(rewards: Tensor, group: Tensor, keep: Tensor, prompt_id: Tensor) -> Advantages:
        if section.advantage == "tilt":
            result = adv.tilt_advantage(
                rewards,
                group,
                keep,
                beta=section.beta,
                partition=partition[prompt_id],
                exponent_clamp=section.exponent_clamp,
            )
        else:
            form = {
                "group": adv.group_advantage,
                "global": adv.global_advantage,
                "center": adv.center_advantage,
            }[section.advantage]
            result = form(rewards, group, keep)
        clip = section.advantage_clip
        return adv.clip_advantages(result, clip) if clip else result

    return advantage


@torch.no_grad()
def _partition(recipe: Recipe, scorer: Scorer, pool: Pool, model: DiffusionModel) -> Tensor:
    """Z of (O3) per prompt, from the rewards of the data itself, scored once.

    As many are decoded and scored at once as in a step of the run.
    """
    ids, rollout = pool.caption_id, recipe.rollout
    device = next(model.transformer.parameters()).device

    def decode(rows: Tensor) -> Tensor:
        return model.decode(pool.x0[rows].to(device), pool.condition[ids[rows]].to(device)).cpu()

    scores = scorer.score_in_parts(
        decode,
        pool.prompts.select(ids.tolist()),
        ids,
        part_size=recipe.run.micro_batch or rollout.prompts_per_step * rollout.group_size,
    )
    values = []
    for prompt, text in enumerate(pool.prompts.text):
        rewards = scores.combined[scores.valid & (ids == prompt)]
        if not len(rewards):
            raise RewardError(
                f"Prompt {text!r} has no data with a reward, which the tilt advantage needs.",
                hint='give it data, or set objective.advantage = "group"',
            )
        values.append(adv.log_partition(rewards, beta=recipe.objective.beta))
    return torch.tensor(values)
