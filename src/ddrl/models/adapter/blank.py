"""Conditions of every family with nothing in them: what a plan is traced with."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily

from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.records import Condition

Size = Sequence[int]
Fields = dict[str, Tensor]


def blank_condition(model: DiffusersModel, rows: int, latent_shape: Size) -> Condition | None:
    """Make a condition of the shapes that the family's ``encode`` gives; None if not known.

    A family of the user's own says it with a method ``blank(rows, latent_shape)``; one that leaves
    the encoding of texts to a family of ddrl has that one's.

    Texts are as long as the family's limit, where it does not pad them to it: an upper bound.

    Args:
        model: a sketch, or a loaded model.
        rows: number of rows B.
        latent_shape: shape of one sample's latents.
    """
    if hasattr(model, "blank"):
        asked: Condition | None = model.blank(rows, latent_shape)
        return asked
    for kind in type(model).__mro__:
        if not kind.__module__.startswith("ddrl.") and "_encode" in vars(kind):
            return None
        if kind.__name__ in _FIELDS and kind.__module__.startswith("ddrl."):
            condition, fields = _FIELDS[kind.__name__]
            made: Condition = getattr(importlib.import_module(kind.__module__), condition)(
                **fields(model, rows, latent_shape)
            )
            return made
    return None


def _config(model: DiffusersModel) -> Any:  # noqa: ANN401 - diffusers is untyped
    return model.transformer.config


def _limit(model: DiffusersModel) -> int:
    """Tokens that the pipeline cuts texts to, by default."""
    return int(inspect.signature(model.pipeline.__call__).parameters["max_sequence_length"].default)


def _filled(rows: int, value: int | bool) -> Tensor:
    """What is asked before a pass: no fake tensor, which holds nothing."""
    with unset_fake_temporarily():
        return torch.full((rows,), value)


def _sd3(model: DiffusersModel, rows: int, _: Size) -> Fields:
    config = _config(model)
    return {
        "embeds": torch.zeros(rows, 77 + _limit(model), config.joint_attention_dim),
        "pooled": torch.zeros(rows, config.pooled_projection_dim),
    }


def _source(model: DiffusersModel, rows: int, shape: Size) -> Fields:
    """Latents of source images, which the data bring to the size of the result."""
    sides = model.source_size(*(side * model.spatial_factor for side in shape[1:]))
    latents = (side // model.spatial_factor for side in sides)
    return {"given": torch.zeros(rows, shape[0], *latents)} if model.given_frames else {}


def _flux(model: DiffusersModel, rows: int, shape: Size) -> Fields:
    config = _config(model)
    return {
        "embeds": torch.zeros(rows, _limit(model), config.joint_attention_dim),
        "pooled": torch.zeros(rows, config.pooled_projection_dim),
        **_source(model, rows, shape),
    }


def _flux2(model: DiffusersModel, rows: int, shape: Size) -> Fields:
    embeds = torch.zeros(rows, _limit(model), _config(model).joint_attention_dim)
    return {"embeds": embeds, **_source(model, rows, shape)}


def _qwen(model: DiffusersModel, rows: int, _: Size) -> Fields:
    length = _limit(model)
    return {
        "embeds": torch.zeros(rows, length, _config(model).joint_attention_dim),
        "mask": torch.ones(rows, length, dtype=torch.bool),
        "length": _filled(rows, length),
    }


def _qwen_edit(model: DiffusersModel, rows: int, shape: Size) -> Fields:
    edits: Any = model
    size = [side * model.spatial_factor for side in shape[1:]]
    seen, width = edits.num_seen(*size), _config(model).joint_attention_dim
    fields = {"is_empty": _filled(rows, False)}
    for kind, length in (("", seen + _limit(model)), ("empty_", seen)):
        fields[f"{kind}embeds"] = torch.zeros(rows, length, width)
        fields[f"{kind}mask"] = torch.ones(rows, length, dtype=torch.bool)
        fields[f"{kind}length"] = _filled(rows, length)
    return fields | _source(model, rows, shape)


def _sana(model: DiffusersModel, rows: int, _: Size) -> Fields:
    length = _limit(model)
    return {
        "embeds": torch.zeros(rows, length, _config(model).caption_channels),
        "mask": torch.ones(rows, length, dtype=torch.int64),
        "length": _filled(rows, length),
    }


def _ltx(model: DiffusersModel, rows: int, shape: Size) -> Fields:
    length = _limit(model)
    return {
        "embeds": torch.zeros(rows, length, _config(model).caption_channels),
        "mask": torch.ones(rows, length, dtype=torch.bool),
        "length": _filled(rows, length),
        **({"given": torch.zeros(rows, shape[0], 1, *shape[2:])} if model.given_frames else {}),
    }


def _ltx2(model: DiffusersModel, rows: int, shape: Size) -> Fields:
    config = _config(model)
    is_projected = config.use_prompt_embeddings
    width = config.caption_channels if is_projected else config.cross_attention_dim
    fields = _ltx(model, rows, shape)
    return fields | {"embeds": torch.zeros(rows, _limit(model), width)}


def _z_image(model: DiffusersModel, rows: int, _: Size) -> Fields:
    length = _limit(model)
    embeds = torch.zeros(rows, length, _config(model).cap_feat_dim)
    return {"embeds": embeds, "length": _filled(rows, length)}


def _stable_diffusion(model: DiffusersModel, rows: int, _: Size) -> Fields:
    return {"embeds": torch.zeros(rows, 77, _config(model).cross_attention_dim)}


def _sdxl(model: DiffusersModel, rows: int, shape: Size) -> Fields:
    config = _config(model)
    sizes = 6 * config.addition_time_embed_dim
    pooled = config.projection_class_embeddings_input_dim - sizes
    return _stable_diffusion(model, rows, shape) | {"pooled": torch.zeros(rows, pooled)}


def _wan(model: DiffusersModel, rows: int, shape: Size) -> Fields:
    config = _config(model)
    fields = {"embeds": torch.zeros(rows, 512, config.text_dim)}
    if getattr(model, "given_frames", 0):
        is_whole = type(model).__name__ == "WanI2V"
        frames = shape[1] if is_whole else 1
        fields["given"] = torch.zeros(rows, shape[0], frames, *shape[2:])
        if config.image_dim is not None:
            fields["image"] = torch.zeros(rows, 257, config.image_dim)
    return fields


def _cosmos(model: DiffusersModel, rows: int, shape: Size) -> Fields:
    config = _config(model)
    width = config.crossattn_proj_in_channels if config.use_crossattn_projection else None
    fields = {"embeds": torch.zeros(rows, 512, width or config.text_embed_dim)}
    given = getattr(model, "given_latents", 0)
    if given:
        fields["given"] = torch.zeros(rows, shape[0], given, *shape[2:])
    return fields


_FIELDS: Mapping[str, tuple[str, Callable[[DiffusersModel, int, Size], Fields]]] = {
    "SD3": ("SD3Condition", _sd3),
    "Flux": ("FluxCondition", _flux),
    "Flux2Klein": ("Flux2KleinCondition", _flux2),
    "QwenImageEdit": ("QwenEditCondition", _qwen_edit),
    "QwenImage": ("QwenImageCondition", _qwen),
    "Sana": ("SanaCondition", _sana),
    "LTX2": ("LTXCondition", _ltx2),
    "LTXVideo": ("LTXCondition", _ltx),
    "ZImage": ("ZImageCondition", _z_image),
    "SDXL": ("SDXLCondition", _sdxl),
    "StableDiffusion": ("StableDiffusionCondition", _stable_diffusion),
    "Wan": ("WanCondition", _wan),
    "WanI2V": ("WanCondition", _wan),
    "WanTI2V": ("WanCondition", _wan),
    "Cosmos": ("CosmosCondition", _cosmos),
}
"""Adapter -> the name of its condition, in its own file, and what fills it."""
