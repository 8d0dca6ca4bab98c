"""Where a recipe is computed: its device, and how many threads."""

from __future__ import annotations

import logging

import torch
from threadpoolctl import threadpool_limits

from ddrl.errors import UsageError
from ddrl.recipe import Recipe

logger = logging.getLogger(__name__)


def pick_device(recipe: Recipe) -> torch.device:
    """The device of ``run.device``.

    Raises:
        UsageError: CUDA is asked for and not there.
    """
    if _lacks_cuda(recipe):
        raise UsageError(
            'run.device is "cuda", but PyTorch sees no CUDA device.',
            hint="train on what there is with run.device=auto or run.device=cpu",
        )
    has_cuda = recipe.run.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if has_cuda else "cpu")


def device_to_read(recipe: Recipe) -> torch.device:
    """The device on which a finished run is read: the CPU where its own is not there."""
    if _lacks_cuda(recipe):
        logger.warning("the run was made on CUDA, which is not here: it is read on the CPU")
        return torch.device("cpu")
    return pick_device(recipe)


def note_device(recipe: Recipe) -> None:
    """Say where a plan is for another machine."""
    if _lacks_cuda(recipe):
        logger.warning("not here yet: run.device is cuda, and PyTorch sees no CUDA device")


def _lacks_cuda(recipe: Recipe) -> bool:
    return recipe.run.device == "cuda" and not torch.cuda.is_available()


def limit_threads(recipe: Recipe) -> None:
    """Hold PyTorch and the linear algebra below NumPy to ``run.threads``, if that is not 0."""
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
        threadpool_limits(recipe.run.threads)
