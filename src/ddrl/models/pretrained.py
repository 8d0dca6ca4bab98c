"""Loads a diffusers pipeline from a folder or a hub id, behind the adapter of its family."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ddrl.errors import UsageError, WeightsError
from ddrl.models.configs import PipelineConfigs, building, split_revision
from ddrl.models.diffusers_model import DiffusersModel

__all__ = ["FAMILIES", "adapter_of", "import_diffusers", "load_model"]

FAMILIES: Mapping[str, str] = {
    "StableDiffusion3Pipeline": "ddrl.models.sd3:SD3",
    "SanaPipeline": "ddrl.models.sana:Sana",
    "StableDiffusionPipeline": "ddrl.models.stable_diffusion:StableDiffusion",
    "StableDiffusionXLPipeline": "ddrl.models.stable_diffusion:SDXL",
    "ZImagePipeline": "ddrl.models.z_image:ZImage",
    "FluxPipeline": "ddrl.models.flux:Flux",
    "QwenImagePipeline": "ddrl.models.qwen_image:QwenImage",
    "Flux2KleinPipeline": "ddrl.models.flux2_klein:Flux2Klein",
    "WanPipeline": "ddrl.models.wan_family:open_wan",
    "WanImageToVideoPipeline": "ddrl.models.wan_family:open_wan",
    "Cosmos2_5_PredictBasePipeline": "ddrl.models.cosmos:Cosmos",
    "HunyuanVideo15Pipeline": "ddrl.models.hunyuan_video15:HunyuanVideo15",
    "HunyuanVideo15ImageToVideoPipeline": "ddrl.models.hunyuan_video15:HunyuanVideo15I2V",
    "LTXPipeline": "ddrl.models.ltx_video:LTXVideo",
    "LTX2Pipeline": "ddrl.models.ltx2:LTX2",
}
"""Pipeline class of ``model_index.json`` -> the adapter, or what chooses it."""

NOT_LOADED: Mapping[str, tuple[str, ...]] = {
    "Cosmos2_5_PredictBasePipeline": ("safety_checker",),
}
"""Parts that a pipeline demands and ddrl, which takes the steps itself, doesn't use."""


class _NotLoaded:
    """Stands where a part would: the pipeline can be loaded and saved, and not be called."""


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


def load_model(path: str | Path, *, dtype: torch.dtype = torch.float32) -> DiffusersModel:
    """Load a pipeline and wrap it.

    Args:
        path: a folder written by ``save_pretrained``, a hub id, or ``id@revision``.
        dtype: of all weights.

    Raises:
        UsageError: diffusers is not installed.
        WeightsError: it is not a pipeline of a family that ddrl knows, or files are missing.
    """
    pipelines = import_diffusers().DiffusionPipeline
    name = PipelineConfigs.find(path).class_name
    adapter = adapter_of(name, path)
    _refuse_pipes(path)
    left_out = {part: _NotLoaded() for part in NOT_LOADED.get(name, ())}
    where, revision = (str(path), None) if Path(path).exists() else split_revision(str(path))
    hint = "download the whole model to a folder and give that folder as model.path"
    # Some constructors draw what is then overwritten.
    with building(f"{path} can't be loaded", hint=hint), torch.random.fork_rng(devices=[]):
        pipeline = pipelines.from_pretrained(
            where, revision=revision, dtype=dtype, trust_remote_code=False, **left_out
        )
        return adapter(pipeline)


def _refuse_pipes(path: str | Path) -> None:
    """See that diffusers will wait for no pipe in a model's folder.

    Raises:
        WeightsError: there is one, or a device.
    """
    for found in Path(path).rglob("*"):
        if found.exists() and not found.is_dir() and not found.is_file():
            raise WeightsError(
                f"{found} is a pipe, socket or device, no regular file.",
                hint="download the model again, into an empty folder",
            )


def adapter_of(name: str, path: str | Path) -> Callable[[Any], DiffusersModel]:
    """What wraps a pipeline of this class.

    Raises:
        WeightsError: there is no such adapter.
    """
    if name not in FAMILIES:
        raise WeightsError(
            f"{path} holds a {name}, which ddrl has no adapter for.",
            hint=f"it knows {', '.join(sorted(FAMILIES))}",
        )
    module, _, attribute = FAMILIES[name].partition(":")
    adapter: Callable[[Any], DiffusersModel] = getattr(importlib.import_module(module), attribute)
    return adapter
