"""The sampler of a recipe, as rollouts and synthetic data use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from ddrl.diffusion.kernels import make_kernel
from ddrl.diffusion.process import Process
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.transition import Transitions
from ddrl.errors import UsageError
from ddrl.models.base import DiffusionModel
from ddrl.models.rollout_weights import merged_weights
from ddrl.recipe import Recipe, stochastic_steps
from ddrl.recipe.sections.run import RolloutSection
from ddrl.seeding import derive_seed
from ddrl.training.forward import Forward
from ddrl.training.rollout import Drawing


def build_transitions(
    section: RolloutSection, process: Process, *, own_shift: float = 1.0
) -> Transitions:
    """The sampler of ``[rollout]``; the model's own shift of times where the recipe has none."""
    chosen = stochastic_steps(section)
    mask = torch.zeros(section.steps, dtype=torch.bool)
    mask[list(chosen)] = True
    return Transitions.build(
        make_kernel(section.kernel, eta=section.eta),
        process,
        time_grid(section.steps, shift=section.time_shift or own_shift),
        stochastic=mask,
    )


def build_forward(recipe: Recipe, model: DiffusionModel, *, guidance: float = 0) -> Forward:
    """The policy as a recipe computes it.

    Args:
        recipe: of the run.
        model: its model.
        guidance: guidance scale; 0: that of the recipe's rollouts.
    """
    autocast = torch.bfloat16 if recipe.run.precision == "bfloat16" else None
    return Forward(model, guidance=guidance or recipe.rollout.guidance, autocast=autocast)


def merges(recipe: Recipe, network: nn.Module) -> bool:
    """Whether weights are made for each rollout, which a quantised network's can't be.

    Raises:
        UsageError: they are asked for, and can't be made.
    """
    if not any(getattr(part, "is_quantized", False) for part in network.modules()):
        return recipe.merges
    if recipe.rollout.merge == "always":
        raise UsageError(
            'rollout.merge is "always", but an adapter can\'t be merged into a quantised network.',
            hint='leave rollout.merge out, or set it to "never"',
        )
    return False


def drawing_forward(recipe: Recipe, forward: Forward) -> Forward:
    """The policy as rollouts compute it with merged weights."""
    return replace(forward, autocast=None) if recipe.draws_without_autocast else forward


def build_drawing(recipe: Recipe, forward: Forward) -> Drawing | None:
    """What makes the weights of each rollout; None where it has the update's.

    Raises:
        UsageError: they are asked for, and can't be made.
    """
    network = forward.model.transformer
    if not merges(recipe, network):
        return None
    drawn = drawing_forward(recipe, forward)

    @contextmanager
    def drawing(step: int) -> Iterator[Forward]:
        seed = derive_seed(recipe.run.seed, "merge", step)
        with merged_weights(network, autocast=drawn.autocast, seed=seed):
            yield drawn

    return drawing
