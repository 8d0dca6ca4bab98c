"""A recipe to its plan, before any weight is read: a sketch of the model, traced."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from ddrl.builders.assets import check_named
from ddrl.builders.device import note_device, pick_device
from ddrl.builders.opening import is_downloaded_later, require_base
from ddrl.builders.sampler import build_forward, build_transitions, drawing_forward, merges
from ddrl.builders.tasks.table import task_of
from ddrl.builders.tasks.task import Model, Task
from ddrl.errors import DDRLError, UsageError, WeightsError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.attention import attention_calls, check_calls
from ddrl.models.base import DiffusionModel
from ddrl.models.files.configs import reason_of
from ddrl.models.footprint import peak_bytes
from ddrl.models.rollout_weights import merged_bytes, merged_weights
from ddrl.recipe import Footprint, Plan, Recipe, Working, format_size, make_plan
from ddrl.recipe.extras import missing_extras
from ddrl.records import Condition
from ddrl.rewards.base import reward_class
from ddrl.rewards.card import RewardCard
from ddrl.training.forward import Forward
from ddrl.training.noise import is_small

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
    trained = sum(_bytes(p) for p in network.parameters() if p.requires_grad)
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


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _all_bytes(network: torch.nn.Module) -> Iterator[int]:
    return map(_bytes, (*network.parameters(), *network.buffers()))


def trace_passes(recipe: Recipe, model: Model, shape: tuple[int, ...]) -> tuple[int, Working]:
    """Go through every kind of pass with fake tensors, and see how much memory each takes.

    The work of one micro-batch is traced, of the size that the run has: fake tensors cost the same
    at any size. Autocast is that of the CPU, which keeps a little less in float32 than CUDA's.

    Args:
        recipe: whose passes.
        model: without its weights; it can't be used afterwards.
        shape: of one sample's latents.

    Returns:
        Bytes of an encoded text, and of the passes.

    Raises:
        UsageError: the family can't be traced.
    """
    forward = build_forward(recipe, model)
    with traceable(task_of(recipe), model, shape) as condition:
        per_text = sum(_bytes(v) for v in vars(condition(1)).values() if isinstance(v, Tensor))
        return per_text, _trace(recipe, forward, shape, condition)


@contextmanager
def traceable(
    task: Task, model: Model, shape: tuple[int, ...]
) -> Iterator[Callable[[int], Condition]]:
    """A context in which the model computes on fake tensors, and what makes its conditions.

    Args:
        task: what the run is about.
        model: without its weights; it can't be used afterwards.
        shape: of one sample's latents.

    Raises:
        UsageError: the family can't be traced.
    """
    from ddrl.models.sketch import materialize

    frozen = model.frozen_parts() if isinstance(model, DiffusersModel) else []
    with materialize([model.transformer, *frozen]):
        yield lambda rows: task.blank(model, rows, shape)


def _trace(
    recipe: Recipe,
    forward: Forward,
    shape: tuple[int, ...],
    condition: Callable[[int], Condition],
) -> Working:
    model = forward.model

    def velocity(size: int, one: Forward = forward) -> Tensor:
        return one.plain(torch.zeros(size, *shape), torch.full((size,), 0.5), condition(size))

    def update(size: int, num_beside: int) -> None:
        """Forward and backward, with so many passes without gradient in between."""
        total = velocity(size)
        with torch.no_grad():
            beside = [velocity(size) for _ in range(num_beside)]
        for other in beside:
            total = total - other
        torch.autograd.backward(total.square().sum())

    for parameter in model.transformer.parameters():
        if parameter.requires_grad:  # all passes but the first find gradients to add to
            parameter.grad = torch.empty_like(parameter)
    updates = [peak_bytes(partial(update, *work)) for work in _updates(recipe)]
    rows = _rows(recipe, recipe.rollout.prompts_per_step * recipe.rollout.group_size)
    with torch.no_grad():
        return Working(
            encode=_encode_peak(recipe, model),
            rollout=_rollout_peak(recipe, forward, lambda one: velocity(rows, one)),
            decode=peak_bytes(lambda: model.decode(torch.zeros(rows, *shape), condition(rows))),
            update=max(updates),
            evaluate=_drawn_peak(recipe, lambda: velocity(rows)),
        )


def _rollout_peak(recipe: Recipe, forward: Forward, velocity: Callable[[Forward], Tensor]) -> int:
    """The peak of a rollout's passes, with the weights that it has."""
    network = forward.model.transformer
    if not merges(recipe, network):
        return _drawn_peak(recipe, lambda: velocity(forward))
    drawn = drawing_forward(recipe, forward)
    with merged_weights(network, autocast=drawn.autocast, is_traced=True):
        return _drawn_peak(recipe, lambda: velocity(drawn))


def _drawn_peak(recipe: Recipe, velocity: Callable[[], Tensor]) -> int:
    """The peak of passes without gradient, two of them with guidance."""
    passes = 2 if recipe.rollout.guidance != 1 else 1
    return peak_bytes(lambda: [velocity() for _ in range(passes)])


def _rows(recipe: Recipe, available: int) -> int:
    """Samples of a pass."""
    return min(recipe.run.micro_batch or available, available)


def _updates(recipe: Recipe) -> list[tuple[int, int]]:
    """Per kind of pass with gradient: its rows, and passes without gradient that go beside it.

    The data term's is left out where the policy term's is as large: it takes the same memory.
    """
    objective, rollout, fold = recipe.objective, recipe.rollout, recipe.run.steps_per_pass
    is_guided, is_taught = rollout.guidance != 1, recipe.data.target == "teacher"
    kinds: list[tuple[int, int]] = []
    if objective.policy != "none":
        rows = _rows(recipe, rollout.prompts_per_step * rollout.group_size)
        with_reference = objective.regularizer == "reference"
        kinds.append((rows * fold, is_guided + with_reference * (1 + is_guided)))
    if objective.regularizer == "data":
        size = recipe.data.anchors_per_group or rollout.group_size
        rows = _rows(recipe, rollout.prompts_per_step * size)
        rows *= fold if objective.data_per_step == "all" else 1
        if not kinds or rows > kinds[0][0] or is_taught:
            kinds.append((rows, int(is_taught)))
    return kinds


def _encode_peak(recipe: Recipe, model: DiffusionModel) -> int:
    if not isinstance(model, DiffusersModel):
        return 0  # its latents are pixels
    height, width, frames = max(recipe.data.shapes, key=math.prod)
    clip = (frames,) if model.is_video() else ()
    sizes = [(height, width)]
    if recipe.data.source_images:
        sizes += [model.source_size(*shape[:2]) for shape in recipe.data.shapes]
    size = max(sizes, key=math.prod)
    return peak_bytes(lambda: model.encode_media(torch.zeros(1, *clip, 3, *size)))
