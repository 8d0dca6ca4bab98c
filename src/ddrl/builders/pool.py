"""Prompts and anchors of a run, and who gets which of them when."""

from __future__ import annotations

import logging

import torch

from ddrl.builders.data.corpus import Part
from ddrl.builders.store import Progress
from ddrl.builders.synthetic.anchors import anchors_per_group, make_anchors, synthetic_dealt
from ddrl.builders.tasks.task import Task
from ddrl.data.encoded.joined import JoinedLatents
from ddrl.data.groups import Dealer
from ddrl.data.sized import SizedDealer
from ddrl.models.base import DiffusionModel
from ddrl.recipe import Recipe
from ddrl.recipe.rules.anchors import needs_synthetic
from ddrl.recipe.sizes import size_name
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.training.pool import Pool

logger = logging.getLogger(__name__)

# Times that a sample comes up, above which a run is warned; anchors.py says what was measured.
MANY = 50


def build_pool(
    task: Task,
    model: DiffusionModel,
    part: Part,
    scorer: Scorer,
    *,
    progress: Progress | None = None,
) -> tuple[Pool, Dealer | SizedDealer]:
    """The pool of ``data.anchor``, and its dealer.

    Args:
        task: whose recipe's anchors.
        model: the base, if anchors have to be sampled from it.
        part: the data that is trained on.
        scorer: the recipe's rewards, if only the best of these samples are kept.
        progress: called as samples are made and scored.

    Raises:
        DataError: a prompt has no data, or samples of the base can't be had.
        RewardError: these can't be scored, where only the best are kept.
    """
    recipe = task.recipe
    x0, caption_id, num_real = part.x0, part.caption_id, len(part.x0)
    if needs_synthetic(recipe):
        made = make_anchors(task, model, part, scorer, progress=progress)
        _log_repeats(recipe, len(made.latents))
        if recipe.data.anchor == "mixed":
            x0 = JoinedLatents(x0, made.latents)
            caption_id = torch.cat([caption_id, made.caption_id])
        else:
            x0, caption_id = made.latents, made.caption_id
    pool = Pool(prompts=part.prompts, condition=part.condition, x0=x0, caption_id=caption_id)
    # Without a data term no data is needed, and prompts alone have none.
    has_term = recipe.objective.regularizer == "data"
    if part.size_id is not None:
        return pool, _sized_dealer(recipe, part, has_term=has_term)
    dealer = Dealer(
        caption_id,
        num_prompts=len(part.captions),
        seed=recipe.run.seed,
        prompts_per_step=recipe.rollout.prompts_per_step,
        anchors_per_group=anchors_per_group(recipe) if has_term else 0,
        mode=recipe.data.anchor if has_term else "independent",
        num_real=num_real,
        share=recipe.data.synthetic_share,
    )
    return pool, dealer


def _sized_dealer(recipe: Recipe, part: Part, *, has_term: bool) -> SizedDealer:
    """The dealer of data of several sizes; says how many steps of the run each size has."""
    assert part.size_id is not None
    is_independent = has_term and recipe.data.anchor == "independent"
    names = list(map(size_name, recipe.data.shapes))
    dealer = SizedDealer(
        part.caption_id,
        part.size_id,
        num_prompts=len(part.captions),
        num_sizes=len(names),
        seed=recipe.run.seed,
        prompts_per_step=recipe.rollout.prompts_per_step,
        anchors_per_group=anchors_per_group(recipe) if has_term else 0,
        mode="independent" if is_independent else "paired",
    )
    counts = dealer.steps_by_size(recipe.run.steps)
    said = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
    logger.info("steps of the run by size: %s", said)
    for size, name in enumerate(names):
        if not counts[size] and bool((part.size_id == size).any()):
            logger.warning(
                "the run has no step of the size %s, of which there is too little data: it comes "
                "up when rollout.prompts_per_step = %d prompts of it are together",
                name,
                recipe.rollout.prompts_per_step,
            )
    return dealer


def _log_repeats(recipe: Recipe, num_samples: int) -> None:
    """Say how often a synthetic sample comes up: few that come often are learned by heart."""
    times = synthetic_dealt(recipe) / num_samples
    message = "%d synthetic samples, each of which comes up about %.0f times in the run"
    logger.info(message, num_samples, times)
    if times > MANY:
        logger.warning(
            "so few samples are learned by heart, which the held-out loss shows: raise "
            "data.synthetic.per_prompt, or set it to 0"
        )
