"""Checks that a network of pictures takes the latents of its VAE, and no other channels."""

from __future__ import annotations

from typing import Any

from ddrl.errors import WeightsError

_PACKED = {"FluxPipeline": 4, "FluxKontextPipeline": 4}
_FAMILIES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline")


def check_channels(model: Any) -> None:  # noqa: ANN401 - an adapter, before it is whole
    """Refuse networks that also take a masked picture, depth or the like with the latents.

    Raises:
        WeightsError: the network takes other channels than those of the VAE.
    """
    kind = type(model.pipeline).__name__
    if kind not in (*_FAMILIES, *_PACKED):
        return
    wanted = getattr(model.transformer.config, "in_channels", None)
    latent = getattr(getattr(model.vae, "config", None), "latent_channels", None)
    if wanted is None or latent is None or wanted == latent * _PACKED.get(kind, 1):
        return
    network = type(model.transformer).__name__
    latent *= _PACKED.get(kind, 1)
    is_more = wanted > latent and kind != "StableDiffusion3Pipeline"
    why = " (an inpainting, depth or editing model, which is told a picture, too)"
    raise WeightsError(
        f"The {network} takes {wanted} channels, and latents of its VAE have {latent}"
        f"{why if is_more else ''}.",
        hint="take a model that makes pictures from text alone"
        if is_more
        else "take network and VAE from one release",
    )
