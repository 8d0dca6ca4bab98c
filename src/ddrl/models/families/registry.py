"""The adapter of each class of pipelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ddrl.errors import UsageError, WeightsError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.adapter.own_family import Family, check_pipeline

FAMILIES: Mapping[str, str] = {
    "StableDiffusion3Pipeline": "ddrl.models.families.sd3:SD3",
    "SanaPipeline": "ddrl.models.families.sana:Sana",
    "StableDiffusionPipeline": "ddrl.models.families.stable_diffusion:StableDiffusion",
    "StableDiffusionXLPipeline": "ddrl.models.families.stable_diffusion:SDXL",
    "ZImagePipeline": "ddrl.models.families.z_image:ZImage",
    "FluxPipeline": "ddrl.models.families.flux:Flux",
    "FluxKontextPipeline": "ddrl.models.families.flux:FluxKontext",
    "QwenImagePipeline": "ddrl.models.families.qwen_image:QwenImage",
    "QwenImageEditPipeline": "ddrl.models.families.qwen_image_edit:QwenImageEdit",
    "QwenImageEditPlusPipeline": "ddrl.models.families.qwen_image_edit:QwenImageEditPlus",
    "Flux2KleinPipeline": "ddrl.models.families.flux2_klein:Flux2Klein",
    "WanPipeline": "ddrl.models.families.wan.family:open_wan",
    "WanImageToVideoPipeline": "ddrl.models.families.wan.family:open_wan",
    "Cosmos2_5_PredictBasePipeline": "ddrl.models.families.cosmos:Cosmos",
    "HunyuanVideo15Pipeline": "ddrl.models.families.hunyuan_video15:HunyuanVideo15",
    "HunyuanVideo15ImageToVideoPipeline": "ddrl.models.families.hunyuan_video15:HunyuanVideo15I2V",
    "LTXPipeline": "ddrl.models.families.ltx_video:LTXVideo",
    "LTXImageToVideoPipeline": "ddrl.models.families.ltx_video:LTXVideo",
    "LTX2Pipeline": "ddrl.models.families.ltx2:LTX2",
    "LTX2ImageToVideoPipeline": "ddrl.models.families.ltx2:LTX2",
}
"""Pipeline class of ``model_index.json`` -> the adapter, or what chooses it."""


def import_diffusers() -> Any:  # noqa: ANN401 - untyped
    """The library, which is an extra.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import diffusers
    except ImportError as error:
        raise UsageError(
            "Loading a diffusers model needs diffusers, transformers and peft.",
            hint="pip install 'ddrl[models]'",
        ) from error
    return diffusers


def adapter_of(
    name: str, path: str | Path, family: Family | None = None
) -> Callable[[Any], DiffusersModel]:
    """Return the adapter for a pipeline's class: ddrl's own, or the one that is given.

    Raises:
        WeightsError: there is no such adapter.
        UsageError: the one that is given is for other pipelines.
    """
    if family is not None:
        check_pipeline(family, name, path)
        return family
    if name not in FAMILIES:
        raise WeightsError(
            f"{path} holds a {name}, which ddrl has no adapter for.",
            hint=f"it knows {', '.join(sorted(FAMILIES))}; for another, write an adapter and name "
            'it: model.family="package.module:Class"',
        )
    module, _, attribute = FAMILIES[name].partition(":")
    adapter: Callable[[Any], DiffusersModel] = getattr(import_module(module), attribute)
    return adapter
