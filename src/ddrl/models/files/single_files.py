"""Converts a pipeline or a network in one file, as ComfyUI has them: the line to a folder."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ddrl.errors import WeightsError

_PIPELINES = {  # how diffusers calls what is in a file -> the pipeline, its network
    "v1": ("StableDiffusionPipeline", "UNet2DConditionModel"),
    "v2": ("StableDiffusionPipeline", "UNet2DConditionModel"),
    "xl_base": ("StableDiffusionXLPipeline", "UNet2DConditionModel"),
    "sd3": ("StableDiffusion3Pipeline", "SD3Transformer2DModel"),
    "sd35_large": ("StableDiffusion3Pipeline", "SD3Transformer2DModel"),
    "sd35_medium": ("StableDiffusion3Pipeline", "SD3Transformer2DModel"),
    "flux-dev": ("FluxPipeline", "FluxTransformer2DModel"),
    "flux-schnell": ("FluxPipeline", "FluxTransformer2DModel"),
    "ltx-video": ("LTXPipeline", "LTXVideoTransformer3DModel"),
    "ltx-video-0.9.1": ("LTXPipeline", "LTXVideoTransformer3DModel"),
    "ltx-video-0.9.5": ("LTXPipeline", "LTXVideoTransformer3DModel"),
    "sana": ("SanaPipeline", "SanaTransformer2DModel"),
    "wan-t2v-1.3B": ("WanPipeline", "WanTransformer3DModel"),
    "wan-t2v-14B": ("WanPipeline", "WanTransformer3DModel"),
    "z-image-turbo": ("ZImagePipeline", "ZImageTransformer2DModel"),
}
_OTHERS = {"xl_refiner", "instruct-pix2pix", "upscale", "flux-fill", "flux-depth"}

_VAE = ("first_stage_model.", "vae.")
_T5 = "text_encoders.t5xxl.transformer."
_TEXTS: Mapping[str, tuple[str, ...]] = {  # pipeline -> what its text encoders' names begin with
    "StableDiffusionPipeline": ("cond_stage_model.",),
    "StableDiffusionXLPipeline": ("conditioner.embedders.0.", "conditioner.embedders.1."),
    "StableDiffusion3Pipeline": ("text_encoders.clip_l.", "text_encoders.clip_g."),
    "FluxPipeline": ("text_encoders.clip_l.", _T5),
}
_TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
_TYPES |= {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
_SCALED = ("scale_weight", "weight_scale", "scaled_fp8", "scale_input")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors without memory, of a file's names, shapes and types.

    Raises:
        SafetensorError: it can't be read.
    """
    with safe_open(path, framework="pt") as file:
        found = {}
        for name in file.keys():  # noqa: SIM118
            piece = file.get_slice(name)
            dtype = _TYPES.get(piece.get_dtype(), torch.float32)
            found[name] = torch.empty(piece.get_shape(), dtype=dtype, device="meta")
        return found


def to_convert(path: Path, tensors: Mapping[str, Tensor]) -> WeightsError:
    """Return an error for a file in place of a folder, with the line that converts it.

    Args:
        path: path of the file.
        tensors: tensors of the file, see :func:`read_tensors`; none: no safetensors file.
    """
    kind = _kind(tensors)
    if "inpaint" in kind or kind in _OTHERS:
        return WeightsError(
            f"{path} is a model of another kind ({kind}), which ddrl has no adapter for.",
            hint="take a model that makes pictures from text alone",
        )
    if any(name.endswith(_SCALED) for name in tensors):
        return WeightsError(
            f"{path} holds quantised weights with scales of their own, which diffusers does not "
            "convert.",
            hint="take the model's file in float16 or bfloat16",
        )
    made = path.with_suffix("")
    pipeline = _PIPELINES[kind][0] if kind else "StableDiffusionXLPipeline"
    dtype = f"dtype={_dtype(tensors)}"
    if kind and not _is_whole(pipeline, tensors):
        code = _with_others(path, made, kind, dtype)
    else:
        # SD3 runs without its third text encoder, which such files often leave out.
        without = ""
        if pipeline == "StableDiffusion3Pipeline" and not _holds(tensors, (_T5,)):
            without = ", text_encoder_3=None, tokenizer_3=None"
        code = (
            f"from diffusers import {pipeline}; import torch; {pipeline}.from_single_file("
            f"{str(path)!r}, {dtype}{without}).save_pretrained({str(made)!r})"
        )
    reads = (
        f" (it reads {_hub_id(kind)} from the hub; where that asks who you are, accept its terms "
        f"on huggingface.co/{_hub_id(kind)}, then: hf auth login)"
        if kind
        else ""
    )
    which = "" if kind else ", with the class of its own pipeline"
    return WeightsError(
        f"{path} is a single file of weights, and model.path takes the folder of a pipeline.",
        hint=f"convert it once, with a network{which}{reads}: python -c {shlex.quote(code)}, then "
        f"set model.path={shlex.quote(str(made))}",
    )


def _with_others(path: Path, made: Path, kind: str, dtype: str) -> str:
    """The line for a file without text encoders or VAE: these come from the hub."""
    pipeline, network = _PIPELINES[kind]
    part, hub_id = "unet" if network.startswith("UNet") else "transformer", _hub_id(kind)
    given = (
        f"{network}.from_single_file({str(path)!r}, config={hub_id!r}, subfolder={part!r}, {dtype})"
    )
    return (
        f"from diffusers import {pipeline}, {network}; import torch; {pipeline}.from_pretrained("
        f"{hub_id!r}, {part}={given}, {dtype}).save_pretrained({str(made)!r})"
    )


def _is_whole(pipeline: str, tensors: Mapping[str, Tensor]) -> bool:
    """Return whether a file holds the VAE and every text encoder that the pipeline needs."""
    texts = _TEXTS.get(pipeline)
    has_texts = texts is not None and all(_holds(tensors, (text,)) for text in texts)
    return has_texts and _holds(tensors, _VAE)


def _holds(tensors: Mapping[str, Tensor], starts: tuple[str, ...]) -> bool:
    return any(name.startswith(starts) for name in tensors)


def _dtype(tensors: Mapping[str, Tensor]) -> str:
    """The type of most numbers of a file, to keep them as they are; of float8, bfloat16."""
    sizes: Counter[torch.dtype] = Counter()
    for tensor in tensors.values():
        sizes[tensor.dtype] += tensor.numel()
    most = sizes.most_common(1)[0][0] if sizes else torch.float32
    return str(torch.bfloat16 if most.itemsize == 1 else most)


def _kind(tensors: Mapping[str, Tensor]) -> str:
    """Return the kind of model that diffusers takes a file for; empty: none that it knows."""
    try:
        from diffusers.loaders.single_file_utils import infer_diffusers_model_type

        kind = str(infer_diffusers_model_type(tensors))
    except Exception:  # of a file that it does not know it may expect anything
        return ""
    # What it takes everything for that it does not know.
    if kind == "v1" and not _holds(tensors, ("model.diffusion_model.input_blocks.",)):
        return ""
    if kind == "v1" and _holds(tensors, ("model.diffusion_model.label_emb.",)):
        kind = "xl_base"  # a U-Net alone: diffusers tells SDXL by its text encoders
    is_ours = kind in _PIPELINES or "inpaint" in kind or kind in _OTHERS
    return kind if is_ours else ""


def _hub_id(kind: str) -> str:
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS

    return str(DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"])
