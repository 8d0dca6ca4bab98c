"""Decoding: latents of samples to pixels, which are checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import torch
from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.models.base import DiffusionModel
from ddrl.records import Condition


def decode_samples(
    model: DiffusionModel,
    latents: Tensor,
    condition: Condition,
    *,
    name: Callable[[int], str],
) -> Tensor:
    """Decode samples to pixels on the CPU, and check the pixels.

    Samples whose latents are not finite are the policy's fault, and are left to the guard.

    Args:
        model: model with the decoder.
        latents: finished latents, shape (B, ...).
        condition: conditions of the samples, length B.
        name: returns the words for the sample of a row.

    Raises:
        WeightsError: finite latents became pixels that are not finite.
    """
    pixels = model.decode(latents, condition).cpu()
    # Pixels are in [0, 1], so that only what is no number makes a sum that isn't; the CPU has them.
    finite = pixels.flatten(1).sum(1).isfinite()
    if bool(finite.all()):
        return pixels
    bad = (~finite & latents.flatten(1).isfinite().all(1).cpu()).tolist()
    if any(bad):
        _blame_decoder(model, name(bad.index(True)), sum(bad))
    return pixels


def _blame_decoder(model: DiffusionModel, sample: str, num_bad: int) -> NoReturn:
    decoder = getattr(model, "vae", model)
    dtype = str(getattr(decoder, "dtype", torch.float32)).removeprefix("torch.")
    more = f" (and of {num_bad - 1} more)" if num_bad > 1 else ""
    raise WeightsError(
        f"The decoder ({type(decoder).__name__}, {dtype}) has made pixels that are not finite of "
        f"{sample}{more}, whose latents are finite.",
        hint='decode in more digits: model.dtype = "float32"'
        if dtype != "float32"
        else "see what `ddrl doctor --model` says of the VAE, or take the one of the release",
    )
