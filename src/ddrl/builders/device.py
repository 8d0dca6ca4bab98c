"""Where a recipe is computed: its device, how many threads, how exact float32 products are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from ddrl.errors import UsageError
from ddrl.models.attention import check_device, prefer_attention
from ddrl.recipe import Recipe

logger = logging.getLogger(__name__)


def pick_device(recipe: Recipe) -> torch.device:
    """The device of ``run.device``.

    Raises:
        UsageError: CUDA is asked for and not there, or the kernel of attention needs it.
    """
    if _lacks_cuda(recipe):
        raise UsageError(
            'run.device is "cuda", but PyTorch sees no CUDA device.',
            hint="train on what there is with run.device=auto or run.device=cpu",
        )
    device = _device(recipe)
    check_device(recipe.model.attention, device)
    return device


def _device(recipe: Recipe) -> torch.device:
    has_cuda = recipe.run.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if has_cuda else "cpu")


def device_to_read(recipe: Recipe) -> torch.device:
    """The device on which a finished run is read: the CPU where its own is not there."""
    if _lacks_cuda(recipe):
        logger.warning("the run was made on CUDA, which is not here: it is read on the CPU")
    return _device(recipe)


def note_device(recipe: Recipe) -> None:
    """Say where a plan is for another machine."""
    if _lacks_cuda(recipe):
        logger.warning("not here yet: run.device is cuda, and PyTorch sees no CUDA device")


def _lacks_cuda(recipe: Recipe) -> bool:
    return recipe.run.device == "cuda" and not torch.cuda.is_available()


def configure(recipe: Recipe) -> None:
    """Set threads, the precision of float32 products and the kernel of attention, in this process.

    Threads are those of PyTorch and of the linear algebra below NumPy; 0 leaves them alone.
    """
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
        threadpool_limits(recipe.run.threads)
    torch.set_float32_matmul_precision(recipe.run.float32_matmul)
    prefer_attention(recipe.model.attention)


@contextmanager
def configured(recipe: Recipe) -> Iterator[None]:
    """As :func:`configure`, and back to what the process had."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    attention = prefer_attention(recipe.model.attention)
    with threadpool_limits():
        configure(recipe)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)
            prefer_attention(attention)
