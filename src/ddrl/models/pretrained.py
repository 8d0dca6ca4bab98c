"""Loads a diffusers pipeline from a folder or a hub id, behind the adapter of its family."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ddrl.errors import UsageError, WeightsError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.adapter.own_family import (
    Family,
    check_pipeline,
    files_of_own,
    open_own,
    opens_itself,
)
from ddrl.models.files.base_files import BaseFiles, read_base
from ddrl.models.files.configs import NOT_LOADED, PipelineConfigs, building
from ddrl.models.files.hub import hub_problem, is_offline, local_folder, split_revision
from ddrl.models.files.weights_match import check_weights

__all__ = ["FAMILIES", "adapter_of", "import_diffusers", "load_model", "look_into"]
__all__ += ["refuse_pipes"]

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


def load_model(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    variant: str = "",
    family: Family | None = None,
) -> DiffusersModel:
    """Load a pipeline and wrap it.

    Args:
        path: a folder written by ``save_pretrained``, a hub id, or ``id@revision``.
        dtype: of all weights.
        variant: of the weights, see :func:`~ddrl.models.files.base_files.read_base`.
        family: the adapter; None: that of ddrl for the pipeline's class.

    Raises:
        UsageError: diffusers is not installed, or a package that the pipeline needs, or ``family``
            is of other pipelines.
        WeightsError: it is not a pipeline of a family that ddrl knows, files are missing, cut or
            of another network than the configs, or it can't be had from the hub.
    """
    if opens_itself(family):
        return open_own(family, path, dtype=dtype)
    pipelines = import_diffusers().DiffusionPipeline
    adapter, files = look_into(path, variant=variant, family=family)
    for package in getattr(adapter, "packages", ()):
        if importlib.util.find_spec(package) is None:
            message = f"{files.class_name} needs {package}."
            raise UsageError(message, hint=f"pip install {package}")
    files.check()
    if files.is_here:
        from ddrl.models.sketch import sketch_model  # which needs this module

        check_weights(files, sketch_model(path, family=family).pipeline)
    configs = PipelineConfigs.find(path)
    left_out: dict[str, Any] = dict.fromkeys(configs.left_out())
    left_out |= {part: _NotLoaded() for part in NOT_LOADED.get(files.class_name, ())}
    where, revision = str(path), None
    if not Path(path).exists():
        where, revision = split_revision(str(path))
        if is_offline() and (folder := local_folder(path)) is not None:
            where, revision = str(folder), None
    hint = "see what `ddrl doctor --model PATH` finds in it, or download it again"
    # Some constructors draw what is then overwritten.
    with building(f"{path} can't be loaded", hint=hint), torch.random.fork_rng(devices=[]):
        try:
            pipeline = pipelines.from_pretrained(
                where,
                revision=revision,
                variant=files.variant or None,
                dtype=dtype,
                trust_remote_code=False,
                **left_out,
            )
        except Exception as error:
            known = None if Path(path).exists() else hub_problem(error, str(path))
            raise known or error from error
        return adapter(pipeline)


def look_into(
    path: str | Path, *, variant: str = "", family: Family | None = None
) -> tuple[Callable[[Any], DiffusersModel], BaseFiles]:
    """What wraps a pipeline, and what its files are; no weight is read.

    Raises:
        UsageError: diffusers is not installed.
        WeightsError: it is no pipeline that ddrl knows, or its folder holds no regular files.
    """
    if family is not None and opens_itself(family):
        return family, files_of_own(family, path)
    import_diffusers()  # what is not installed is no fault of the folder
    with building(f"{path} can't be read", hint="download it again: the whole folder"):
        adapter = adapter_of(PipelineConfigs.find(path).class_name, path, family)
        refuse_pipes(path)
        return adapter, read_base(path, variant=variant)


def refuse_pipes(path: str | Path) -> None:
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


def adapter_of(
    name: str, path: str | Path, family: Family | None = None
) -> Callable[[Any], DiffusersModel]:
    """What wraps a pipeline of this class: an adapter of ddrl, or one that is given.

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
    adapter: Callable[[Any], DiffusersModel] = getattr(importlib.import_module(module), attribute)
    return adapter
