"""A recipe to its plan, before any weight is read: a sketch of the model, traced."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import torch

from ddrl.builders.assets import check_named
from ddrl.builders.device import note_device, pick_device
from ddrl.builders.opening import is_downloaded_later, require_base
from ddrl.builders.sampler import build_forward, build_transitions, drawing_forward, merges
from ddrl.builders.tasks.table import task_of
from ddrl.builders.tasks.task import Model
from ddrl.errors import DDRLError, UsageError, WeightsError
from ddrl.jobs.tracing import bytes_of, trace_passes
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.attention import attention_calls, check_calls
from ddrl.models.files.configs import reason_of
from ddrl.models.rollout_weights import merged_bytes
from ddrl.recipe import Footprint, Plan, Recipe, format_size, make_plan
from ddrl.recipe.extras import missing_extras
from ddrl.rewards.base import reward_class
from ddrl.rewards.card import RewardCard
from ddrl.seeding import is_small
from ddrl.training.forward import Forward

logger = logging.getLogger(__name__)


def plan_recipe(recipe: Recipe) -> Plan:
    """The plan of a recipe, and a check of what it names: no weights are read, nothing is written.

    Raises:
        DDRLError: of the kind that fits, for what the recipe asks for and can't be had.
    """
    note_device(recipe)
    _check_what_is_here(recipe)
    model, shape = task_of(recipe).sketch()
    if is_downloaded_later(recipe):
        logger.warning("not here yet: a run will download %s", recipe.model.path)
    shift = model.time_shift(shape, recipe.rollout.steps)
    transitions = build_transitions(recipe.rollout, model.process, own_shift=shift)
    columns = (transitions.a, transitions.b, transitions.std)
    return make_plan(
        recipe,
        transitions=[(a, b, s) for a, b, s in zip(*(c.tolist() for c in columns), strict=True)],
        times=transitions.times.tolist(),
        footprint=_footprint(recipe, model, shape),
    )


def _check_what_is_here(recipe: Recipe) -> None:
    """Check data and rewards as a run does, but for what is not here yet: a plan may come first.

    Raises:
        DataError: the data is here, and wrong.
        RewardError: there is no such reward.
    """
    check_named(recipe, is_here=False)
    for extra in missing_extras(recipe):
        logger.warning("not here yet: %s needs %s: %s", extra.key, extra.missing[0], extra.hint)
    task = task_of(recipe)
    if task.is_here:
        task.check()
    else:
        logger.warning("not here yet: there is no data at %s", recipe.data.path)
    for section in recipe.reward:
        card = getattr(reward_class(section.name), "card", None)
        if isinstance(card, RewardCard) and card.missing_modules():
            needed, hint = " and ".join(card.missing_modules()), card.install_hint()
            logger.warning("not here yet: reward %s needs %s: %s", section.name, needed, hint)


def check_start(recipe: Recipe) -> None:
    """Find before a run what :func:`plan_recipe` finds, and say how much memory it will take.

    Raises:
        DDRLError: as :func:`plan_recipe`.
    """
    device = pick_device(recipe)
    require_base(recipe)
    if device.type != "cuda" or recipe.model.is_embedded:
        check_recipe(recipe)
        return
    check_named(recipe)
    phase, peak = plan_recipe(recipe).memory.peak
    total = torch.cuda.get_device_properties(device).total_memory
    logger.info(
        "about %s of %s on the device at the peak, in %s",
        *(format_size(peak), format_size(total), phase),
    )
    if peak > total:
        logger.warning(
            "this run may not fit: a smaller run.micro_batch, model.gradient_checkpointing = true "
            "or an adapter (model.lora.rank) takes less"
        )


def check_recipe(recipe: Recipe) -> tuple[Model, tuple[int, ...]]:
    """Find what the recipe gets wrong about its model, from the model's configs alone.

    Returns:
        The model without its weights, and the shape of one sample's latents, of the largest size.

    Raises:
        DDRLError: as :func:`plan_recipe`, and for what is not here.
    """
    check_named(recipe)
    return task_of(recipe).sketch()


def _footprint(recipe: Recipe, model: Model, shape: tuple[int, ...]) -> Footprint:
    network = model.transformer
    vae: list[torch.nn.Module] = []
    others: list[torch.nn.Module] = []
    if isinstance(model, DiffusersModel):
        vae = [model.vae]
        others = [part for part in model.frozen_parts() if part is not model.vae]
    trained = sum(bytes_of(p) for p in network.parameters() if p.requires_grad)
    footprint = Footprint(
        trained=trained,
        frozen=sum(_all_bytes(network)) - trained,
        latent=math.prod(shape),
        text_encoders=sum(chain.from_iterable(map(_all_bytes, others))),
        vae=sum(chain.from_iterable(map(_all_bytes, vae))),
        noise_at_once=is_small(shape),
        merged=_merged_bytes(recipe, build_forward(recipe, model)),
    )
    try:
        with attention_calls(network) as calls:
            condition, working = trace_passes(recipe, model, shape)
    except (UsageError, RuntimeError) as error:  # what depends on data can't be known without
        logger.warning("%s can't be traced: %s", type(model).__name__, reason_of(error))
        return footprint
    except DDRLError:
        raise
    except Exception as error:  # the network itself refuses this size, or its own config
        raise WeightsError(
            f"The network of {recipe.model.path} can't compute at this size: {reason_of(error)}",
            hint="choose data.height, data.width and data.frames as its own pipeline takes them",
        ) from error
    if recipe.run.device != "cpu":
        check_calls(recipe.model.attention, calls, type(model).__name__)
    return replace(footprint, condition=condition, working=working)


def _merged_bytes(recipe: Recipe, forward: Forward) -> int:
    """Bytes of the weights that are made for a rollout."""
    network = forward.model.transformer
    if not merges(recipe, network):
        return 0
    return merged_bytes(network, autocast=drawing_forward(recipe, forward).autocast)


def _all_bytes(network: torch.nn.Module) -> Iterator[int]:
    return map(bytes_of, (*network.parameters(), *network.buffers()))
