"""How much memory the autoencoder takes: its type of numbers, slices, tiles."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ddrl.errors import UsageError


def set_vae(
    model: Any,  # noqa: ANN401 - a DiffusersModel, which is below none of this
    *,
    dtype: torch.dtype | None = None,
    slicing: bool = False,
    tiling: bool = False,
) -> None:
    """Have a model's autoencoder take less memory.

    Slices are samples, and change nothing but the order of sums. Tiles overlap and are blended, so
    that pixels and latents are others: they are part of the keys of caches.

    Args:
        model: adapter of a pipeline, or a sketch of one.
        dtype: type of the autoencoder's weights; None: the one that it has.
        slicing: encode and decode sample by sample.
        tiling: encode and decode tile by tile what is larger than a tile.

    Raises:
        UsageError: the autoencoder can't.
    """
    vae, name = model.vae, type(model.vae).__name__
    for key, is_asked in (("slicing", slicing), ("tiling", tiling)):
        if is_asked and not hasattr(vae, f"use_{key}"):
            raise UsageError(
                f"model.vae_{key} is true, but the autoencoder of this {type(model).__name__} "
                f"({name}) has no {key}.",
                hint=f"set model.vae_{key} = false; run.micro_batch = 1 decodes sample by sample",
            )
    if slicing:
        vae.enable_slicing()
    if tiling:
        vae.enable_tiling()
        model.vae_tiling = True  # among the settings that caches depend on
    if dtype is not None:
        nn.Module.to(vae, dtype)  # diffusers' own warns, also where nothing is to be kept
