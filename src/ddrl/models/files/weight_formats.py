"""Files that are not the pipeline a user meant: pointers, single files, one part, an adapter."""

from __future__ import annotations

import shlex
from pathlib import Path

from safetensors import SafetensorError

from ddrl.disk import open_regular, read_json
from ddrl.errors import WeightsError
from ddrl.models.files.single_files import read_tensors, to_convert

AGAIN = "download it again"

_POINTER = b"version https://git-lfs"
_LARGEST_POINTER = 1024

_SINGLE = {".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf"}


def is_pointer(path: Path) -> bool:
    """Return whether a file is a pointer of git-lfs to one that is not fetched."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_POINTER:
            return False
        with open_regular(path) as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def pointer_problem(paths: list[Path]) -> tuple[str, str]:
    """Return the problem with pointers as a sentence, and a hint."""
    more = f", as are {len(paths) - 1} more next to it" if len(paths) > 1 else ""
    return (
        f"{paths[0]} is a pointer of git-lfs, not the file itself{more}.",
        "run `git lfs pull` in the model's folder, or download it again",
    )


def not_a_pipeline(path: Path) -> WeightsError | None:
    """Return an error that says what a path without ``model_index.json`` is; None: not known."""
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
        tensors = read_tensors(path) if path.suffix == ".safetensors" else {}
    except (SafetensorError, OSError, ValueError) as error:
        return WeightsError(
            f"{path} can't be read: {' '.join(str(error).split())}.",
            hint=f"download it again: {path.name}",
        )
    if any("lora_" in name for name in tensors):
        return _an_adapter(path)
    return to_convert(path, tensors)
