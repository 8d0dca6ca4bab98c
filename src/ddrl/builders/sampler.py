"""The sampler of a recipe, as rollouts and synthetic data use it."""

from __future__ import annotations

import torch

from ddrl.diffusion.kernels import make_kernel
from ddrl.diffusion.process import Process
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.transition import Transitions
from ddrl.recipe import stochastic_steps
from ddrl.recipe.sections.run import RolloutSection


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
