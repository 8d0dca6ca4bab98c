"""Prompts and anchors of a run, and who gets which of them when."""

from __future__ import annotations

import logging

import torch

from ddrl.builders.corpus import Part
from ddrl.builders.store import Progress
from ddrl.builders.synthetic import synthesize
from ddrl.data.groups import Dealer, num_synthetic
from ddrl.data.joined import JoinedLatents
from ddrl.models.base import DiffusionModel
from ddrl.recipe import Recipe
from ddrl.recipe.anchors import needs_synthetic
from ddrl.training.trainer import Pool

__all__ = ["build_pool"]

logger = logging.getLogger(__name__)

# On the digits, the loss on held-out data rose by 59 % where a sample came up 300 times, by 14 % at
# 75 times and by 1 % at 20 times.
MANY = 50


def build_pool(
    recipe: Recipe, model: DiffusionModel, part: Part, *, progress: Progress | None = None
) -> tuple[Pool, Dealer]:
    """The pool of ``data.anchor``, and its dealer.

    Args:
        recipe: whose anchors.
        model: the base, if anchors have to be sampled from it.
        part: the data that is trained on.
        progress: called as samples are made.

    Raises:
        DataError: a prompt has no data, or samples of the base can't be had.
    """
    x0, caption_id, num_real = part.x0, part.caption_id, len(part.x0)
    if needs_synthetic(recipe):
        made = synthesize(recipe, model, part, progress=progress)
        _log_repeats(recipe, len(made.latents))
        if recipe.data.anchor == "mixed":
            x0 = JoinedLatents(x0, made.latents)
            caption_id = torch.cat([caption_id, made.caption_id])
        else:
            x0, caption_id = made.latents, made.caption_id
    pool = Pool(prompts=part.captions, condition=part.condition, x0=x0, caption_id=caption_id)
    # Without a data term no data is needed, and prompts alone have none.
    has_term = recipe.objective.regularizer == "data"
    dealer = Dealer(
        caption_id,
        num_prompts=len(part.captions),
        seed=recipe.run.seed,
        prompts_per_step=recipe.rollout.prompts_per_step,
        anchors_per_group=_per_group(recipe) if has_term else 0,
        mode=recipe.data.anchor if has_term else "independent",
        num_real=num_real,
        share=recipe.data.synthetic_share,
    )
    return pool, dealer


def _per_group(recipe: Recipe) -> int:
    return recipe.data.anchors_per_group or recipe.rollout.group_size


def _log_repeats(recipe: Recipe, num_samples: int) -> None:
    """Say how often a synthetic sample comes up: few that come often are learned by heart."""
    anchors = _per_group(recipe)
    if recipe.data.anchor == "mixed":
        anchors = num_synthetic(anchors, recipe.data.synthetic_share)
    dealt = recipe.run.steps * recipe.rollout.prompts_per_step * anchors
    times = dealt / num_samples
    message = "%d synthetic samples, each of which comes up about %.0f times in the run"
    logger.info(message, num_samples, times)
    if times > MANY:
        logger.warning(
            "so few samples are learned by heart, which the held-out loss shows: raise "
            "data.synthetic.per_prompt"
        )
