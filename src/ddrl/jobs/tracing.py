"""Passes of a recipe gone through with fake tensors: how much memory each kind takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from ddrl.builders.sampler import build_forward, drawing_forward, merges
from ddrl.builders.tasks.table import task_of
from ddrl.builders.tasks.task import Model, Task
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.base import DiffusionModel
from ddrl.models.footprint import peak_bytes
from ddrl.models.rollout_weights import merged_weights
from ddrl.recipe import Recipe, Working
from ddrl.records import Condition
from ddrl.training.forward import Forward


def bytes_of(tensor: Tensor) -> int:
    """Bytes of a tensor's numbers."""
    return tensor.numel() * tensor.element_size()


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
        per_text = sum(bytes_of(v) for v in vars(condition(1)).values() if isinstance(v, Tensor))
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
