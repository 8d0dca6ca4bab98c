"""The diffusers model of a recipe: loaded, on the device, with what is trained."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from ddrl.disk import may_be_hub_id
from ddrl.errors import UsageError
from ddrl.models.diffusers_model import DiffusersModel
from ddrl.models.few_step import few_step_name
from ddrl.models.hub import missing_folder
from ddrl.models.lora import LoRASettings, add_lora
from ddrl.models.pretrained import load_model
from ddrl.recipe.schema import Recipe

__all__ = ["adapt", "build_pretrained", "check_model_path", "warn_of_distilled"]

logger = logging.getLogger(__name__)


def check_model_path(recipe: Recipe) -> None:
    """Refuse a base that is not there; costs nothing.

    Raises:
        WeightsError: ``model.path`` is neither a file here nor what may be an id of the hub.
    """
    path = recipe.model.path
    if path and not Path(path).exists() and not may_be_hub_id(path):
        raise missing_folder(path)


def build_pretrained(recipe: Recipe, device: torch.device) -> DiffusersModel:
    """The diffusers model of the recipe, with a fresh adapter if it has one.

    Raises:
        WeightsError: it can't be loaded, or the adapter would be bound to nothing.
        DataError: it takes another number of first frames than ``data.given_frames``.
    """
    model = load_model(recipe.model.path, dtype=getattr(torch, recipe.model.dtype))
    if recipe.model.offload:
        model.offload(device)
    else:
        model.pipeline.to(device)
    count = adapt(recipe, model)
    if count:
        logger.info("LoRA of rank %d on %d modules", recipe.model.lora.rank, count)
    return model


def adapt(recipe: Recipe, model: DiffusersModel) -> int:
    """Make a model, or a sketch of one, what the recipe trains: the adapter or all weights.

    Returns:
        The number of modules that the adapter is on.

    Raises:
        WeightsError: the adapter would be bound to nothing.
        DataError: it takes another number of first frames than ``data.given_frames``.
        UsageError: it can't compute activations again, or is told no guidance scale.
    """
    section, count = recipe.model, 0
    model.given_frames = recipe.data.given_frames
    if section.embedded_guidance:
        _tell_guidance(model, section.embedded_guidance)
    if section.lora.rank:
        lora = LoRASettings(
            rank=section.lora.rank,
            alpha=section.lora.alpha or 2.0 * section.lora.rank,
            targets=tuple(t.strip() for t in section.lora.targets.split(",") if t.strip()),
            dora=section.lora.dora,
        )
        count = add_lora(
            model.transformer,
            lora,
            targets=model.lora_targets,
            is_used=model.is_used,
            cast_inputs=recipe.run.precision == "float32",
        )
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
