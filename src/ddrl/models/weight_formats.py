"""Files that are not the pipeline a user meant: pointers, single files, one part, an adapter."""

from __future__ import annotations

import shlex
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ddrl.disk import open_regular, read_json
from ddrl.errors import WeightsError

__all__ = ["AGAIN", "is_pointer", "not_a_pipeline", "pointer_problem"]

AGAIN = "download it again"

_POINTER = b"version https://git-lfs"
_LARGEST_POINTER = 1024

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
_SINGLE = {".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf"}


def is_pointer(path: Path) -> bool:
    """Whether a file is what git-lfs leaves in the place of one that it has not fetched."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_POINTER:
            return False
        with open_regular(path) as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def pointer_problem(paths: list[Path]) -> tuple[str, str]:
    """What to say of pointers, and what to do."""
    more = f", as are {len(paths) - 1} more beside it" if len(paths) > 1 else ""
    return (
        f"{paths[0]} is a pointer of git-lfs, not the file itself{more}.",
        "run `git lfs pull` in the model's folder, or download it again",
    )


def not_a_pipeline(path: Path) -> WeightsError | None:
    """What a file or folder without a ``model_index.json`` is; None: nothing that is known."""
    index = path / "model_index.json"
    if is_pointer(index):
        problem, hint = pointer_problem([index])
        return WeightsError(f"{path} can't be loaded: {problem}", hint=hint)
    if path.is_file():
        return _single_file(path)
    if index.exists():
        return None
    if (found := _one_part(path)) is not None:
        return found
    try:
        files = sorted(file for file in path.iterdir() if file.suffix in _SINGLE)
    except OSError:
        return None
    return _single_file(max(files, key=lambda file: file.stat().st_size)) if files else None


def _one_part(path: Path) -> WeightsError | None:
    """A folder of one component, or of an adapter."""
    if any((path / name).exists() for name in ("adapter_config.json", *_ADAPTERS)):
        return _an_adapter(path)
    try:
        config = read_json(path / "config.json")
    except (OSError, ValueError):
        return None
    kind = config.get("_class_name") if isinstance(config, dict) else None
    kind = kind or "component"
    whole = (path.parent / "model_index.json").exists()
    return WeightsError(
        f"{path} is one part of a diffusers pipeline, its {kind}, and has no model_index.json.",
        hint=f"give the folder of the whole pipeline: model.path={shlex.quote(str(path.parent))}"
        if whole
        else "give the folder of the whole pipeline, in which this is one of the folders",
    )


_ADAPTERS = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")


def _an_adapter(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} is an adapter (LoRA), and no pipeline.",
        hint="model.path is the pipeline that it was made for",
    )


def _single_file(path: Path) -> WeightsError:
    """One file of weights, which diffusers converts."""
    whole = path.parent.parent / "model_index.json"
    if (path.parent / "config.json").exists() and whole.exists():
        return WeightsError(
            f"{path} is one file of a diffusers pipeline.",
            hint=f"give the pipeline's folder: model.path={shlex.quote(str(whole.parent))}",
        )
    if is_pointer(path):
        problem, hint = pointer_problem([path])
        return WeightsError(f"{path} can't be loaded: {problem}", hint=hint)
    if path.suffix == ".gguf":
        return WeightsError(
            f"{path} is a network in GGUF, and no pipeline.",
            hint="give the folder of the pipeline that it was made from",
        )
    if path.suffix not in _SINGLE:
        return WeightsError(
            f"{path} is a file, and no diffusers pipeline.",
            hint="model.path is a folder written by save_pretrained, or the id of a model on the "
            "hub",
        )
    try:
        shapes = _shapes(path) if path.suffix == ".safetensors" else {}
    except (SafetensorError, OSError, ValueError) as error:
        return WeightsError(
            f"{path} can't be read: {' '.join(str(error).split())}.",
            hint=f"download it again: {path.name}",
        )
    if any("lora_" in name for name in shapes):
        return _an_adapter(path)
    return _to_convert(path, shapes)


def _shapes(path: Path) -> dict[str, torch.Tensor]:
    """Tensors without memory, of the file's names and shapes."""
    with safe_open(path, framework="pt") as file:
        return {
            name: torch.empty(file.get_slice(name).get_shape(), device="meta")
            for name in file.keys()  # noqa: SIM118
        }


def _to_convert(path: Path, shapes: dict[str, torch.Tensor]) -> WeightsError:
    kind = _kind(shapes)
    if "inpaint" in kind or kind in _OTHERS:
        return WeightsError(
            f"{path} is a model of another kind ({kind}), which ddrl has no adapter for.",
            hint="take a model that makes pictures from text alone",
        )
    made = path.with_suffix("")
    pipeline, network = _PIPELINES.get(kind, ("DiffusionPipeline", ""))
    if kind and not any(n.startswith(("first_stage_model.", "vae.")) for n in shapes):
        given = f"{network}.from_single_file({str(path)!r})"
        what = "unet" if network.startswith("UNet") else "transformer"
        code = (
            f"from diffusers import {pipeline}, {network}; {pipeline}.from_pretrained("
            f"{_hub_id(kind)!r}, {what}={given}).save_pretrained({str(made)!r})"
        )
    else:
        if not kind:
            pipeline = "StableDiffusionXLPipeline"
        code = (
            f"from diffusers import {pipeline}; {pipeline}.from_single_file({str(path)!r})"
            f".save_pretrained({str(made)!r})"
        )
    which = "" if kind else ", with the class of its own pipeline"
    return WeightsError(
        f"{path} is a single file of weights, and model.path takes the folder of a pipeline.",
        hint=f"convert it once, with a network{which}: python -c {shlex.quote(code)}, then set "
        f"model.path={shlex.quote(str(made))}",
    )


def _kind(shapes: dict[str, torch.Tensor]) -> str:
    """What diffusers takes a file for; empty: nothing that it knows."""
    try:
        from diffusers.loaders.single_file_utils import infer_diffusers_model_type

        kind = str(infer_diffusers_model_type(shapes))
    except Exception:  # of a file that it does not know it may expect anything
        return ""
    # What it takes everything for that it does not know.
    is_known = kind != "v1" or any(n.startswith("model.diffusion_model.") for n in shapes)
    is_ours = kind in _PIPELINES or "inpaint" in kind or kind in _OTHERS
    return kind if is_known and is_ours else ""


def _hub_id(kind: str) -> str:
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS

    return str(DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"])
