"""The diffusers model of a recipe: loaded, on the device, with what is trained."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from ddrl.builders.stages import read_start, start_from
from ddrl.disk import may_be_hub_id
from ddrl.errors import UsageError, WeightsError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.adapter.few_step import few_step_name
from ddrl.models.adapter.own_family import Family, family_class
from ddrl.models.files.base_files import BaseFiles
from ddrl.models.files.hub import missing_folder
from ddrl.models.files.weights_match import TRAINED
from ddrl.models.lora.adapter import LoRASettings, add_lora, lora_rank
from ddrl.models.pretrained import load_model, look_into
from ddrl.models.vae_memory import set_vae
from ddrl.recipe.recipe import Recipe

logger = logging.getLogger(__name__)


def check_model_path(recipe: Recipe) -> None:
    """Refuse a base that is not there; costs nothing.

    Raises:
        WeightsError: ``model.path`` is neither a file here nor what may be an id of the hub.
    """
    path = recipe.model.path
    if path and not Path(path).exists() and not may_be_hub_id(path):
        raise missing_folder(path)


def family_of(recipe: Recipe) -> Family | None:
    """The adapter that a recipe names; None where ddrl has one for the pipeline's class.

    Raises:
        UsageError: there is none, or it can't be loaded.
    """
    name = recipe.model.own_family
    return family_class(name) if name else None


def build_pretrained(recipe: Recipe, device: torch.device) -> DiffusersModel:
    """The diffusers model of the recipe, with a fresh adapter if it has one.

    Raises:
        WeightsError: it can't be loaded, or the adapter would be bound to nothing.
        DataError: it takes other numbers of given frames or source images than the data give.
        UsageError: the family that the recipe names can't be had.
    """
    section, family = recipe.model, family_of(recipe)
    _, files = look_into(section.path, variant=section.variant, family=family)
    refuse_quantized(recipe, files)
    dtype = getattr(torch, section.dtype)
    model = load_model(section.path, dtype=dtype, variant=section.variant, family=family)
    if section.start:
        start_from(model, Path(section.start))
    if recipe.model.offload:
        model.offload(device)
    else:
        model.pipeline.to(device)
    count = adapt(recipe, model)
    if count:
        logger.info("LoRA of rank %d on %d modules", lora_rank(model.transformer), count)
    return model


def adapt(recipe: Recipe, model: DiffusersModel) -> int:
    """Make a model, or a sketch of one, what the recipe trains: the adapter or all weights.

    Returns:
        The number of modules that the adapter is on.

    Raises:
        WeightsError: the adapter would be bound to nothing.
        DataError: it takes other numbers of given frames or source images than the data give.
        UsageError: it can't compute activations again, is told no guidance scale, or its
            autoencoder has no slicing or tiling.
    """
    section, count = recipe.model, 0
    data = recipe.data
    vae_dtype = None if section.vae_dtype == "auto" else getattr(torch, section.vae_dtype)
    set_vae(model, dtype=vae_dtype, slicing=section.vae_slicing, tiling=section.vae_tiling)
    model.set_given(first_frames=data.given_frames, source_images=data.source_images)
    if section.embedded_guidance:
        _tell_guidance(model, section.embedded_guidance)
    if section.lora.is_used:
        start = read_start(recipe, model)
        rank = start.rank if start else section.lora.rank
        lora = LoRASettings(
            rank=rank,
            alpha=section.lora.alpha or 2.0 * rank,
            targets=tuple(t.strip() for t in section.lora.targets.split(",") if t.strip()),
            dora=start.is_dora if start else section.lora.dora,
        )
        count = add_lora(
            model.transformer,
            lora,
            targets=model.lora_targets,
            is_used=model.is_used,
            cast_inputs=recipe.run.precision == "float32",
            ranks=start.ranks if start else {},
        )
        if start:
            start.load(model.transformer)
    else:
        model.train_all()
    if section.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return count


def _tell_guidance(model: DiffusersModel, scale: float) -> None:
    """Set the scale that the network is told.

    Raises:
        UsageError: it is told none.
    """
    if model.embedded_guidance is None:
        raise UsageError(
            f"model.embedded_guidance is {scale:g}, but the network of this "
            f"{type(model).__name__} is told no guidance scale.",
            hint="leave model.embedded_guidance out; the guidance of two passes is "
            "rollout.guidance",
        )
    model.embedded_guidance = scale


def warn_of_distilled(recipe: Recipe, model: DiffusersModel) -> None:
    """Warn of a diffusion loss on data where the model was distilled for few steps."""
    section = recipe.model
    if recipe.objective.regularizer != "data" or recipe.data.target == "teacher":
        return
    why = {"yes": "model.distilled says so", "no": ""}.get(
        section.distilled, model.distilled() or few_step_name(section.path)
    )
    if why:
        logger.warning(
            "%s is thought to be distilled for few steps (%s), and a diffusion loss on data blurs "
            'such models: set data.target = "teacher" to hold it to its own velocity, or '
            'model.distilled = "no" if it is not',
            section.path,
            why,
        )


def refuse_quantized(recipe: Recipe, files: BaseFiles) -> None:
    """Refuse to train all weights of a network whose weights are quantised.

    Raises:
        WeightsError: that is what the recipe asks for.
    """
    for part in files.parts:
        if part.name in TRAINED and part.quantized and not recipe.model.lora.rank:
            raise WeightsError(
                f"The {part.name} of {files.path} is quantised ({part.quantized}), and quantised "
                "weights can't be trained.",
                hint="train an adapter: set a rank, such as model.lora.rank=16",
            )
