"""One component of a pipeline: its files, and what their headers say of the weights in them."""

from __future__ import annotations

import importlib.util
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ddrl.disk import read_json
from ddrl.errors import WeightsError
from ddrl.models.files.configs import part_class, reason_of
from ddrl.models.files.weight_formats import AGAIN, is_pointer, pointer_problem

WEIGHTS = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)"
    r"(?:\.(?P<variant>[A-Za-z0-9_]+?))?(?:-\d{5}-of-\d{5})?\.(?P<end>safetensors|bin)"
)
_METHODS = {  # how a network is quantised -> the module that reads it, and its package
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "torchao": ("torchao", "torchao"),
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "modelopt": ("modelopt", "nvidia-modelopt"),
}
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_KEPT = 3  # names that a message lists


@dataclass(frozen=True)
class PartFiles:
    """One component of a pipeline, as far as its files tell.

    Attributes:
        name: name in ``model_index.json``.
        kind: name of its class; empty: the model is without it.
        files: files with weights that would be loaded.
        size: size of these files in bytes.
        tensors: name -> shape and type, as the files' headers say.
        quantized: method, such as "bitsandbytes"; empty: its weights are plain numbers.
        problem: reason why it can't be loaded, as a sentence; empty: it can.
        hint: next step for the user.
    """

    name: str
    kind: str = ""
    files: tuple[Path, ...] = ()
    size: int = 0
    tensors: Mapping[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    quantized: str = ""
    problem: str = ""
    hint: str = ""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Types of its weights, the most frequent first."""
        found = [kind for _, kind in self.tensors.values()]
        return tuple(sorted(set(found), key=lambda kind: (-found.count(kind), kind)))


def listed(folder: Path) -> list[str]:
    """Names in a folder, sorted; none where there is no folder."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def read_part(folder: Path, name: str, library: str, class_name: str, variant: str) -> PartFiles:
    """Look at one component: its folder, config, files and their headers.

    Args:
        folder: folder of the pipeline.
        name: name of the component, and of its folder.
        library: library of its class, as ``model_index.json`` says.
        class_name: name of its class, as ``model_index.json`` says.
        variant: variant of the weights, where the component has it.
    """
    part, place = PartFiles(name, class_name), folder / name
    try:
        kind: Any = part_class(library, class_name, str(folder))
    except WeightsError as error:
        return replace(part, problem=error.message, hint=error.hint)
    if not place.is_dir():
        return replace(
            part,
            problem=f"The {name} of {folder} is missing: there is no folder {place}.",
            hint="download it too: model.path needs every part that model_index.json names",
        )
    pointers = [path for path in sorted(place.iterdir()) if is_pointer(path)]
    if pointers:
        problem, hint = pointer_problem(pointers)
        return replace(part, problem=f"The {name} can't be loaded: {problem}", hint=hint)
    if not (isinstance(kind, type) and issubclass(kind, torch.nn.Module)):
        return part if listed(place) else replace(part, problem=_empty(name, place), hint=AGAIN)
    try:
        config = read_json(place / "config.json")
        if not isinstance(config, dict):
            raise ValueError("it is no table")
    except (OSError, ValueError):
        problem = f"{folder} can't be planned: its {name}/config.json can't be read."
        return replace(part, problem=problem, hint=f"{AGAIN}: the whole folder {name}")
    part = _quantized(part, place, config)
    return part if part.problem else _with_weights(part, place, library, variant)


def _empty(name: str, place: Path) -> str:
    return f"The {name} can't be loaded: {place} is empty."


def _quantized(part: PartFiles, place: Path, config: Mapping[str, Any]) -> PartFiles:
    """The part with how it is quantised, and what is missing to read that."""
    section = config.get("quantization_config")
    if not isinstance(section, dict):
        return part
    method = str(section.get("quant_method") or "an unknown method")
    method = "bitsandbytes" if method.startswith("bitsandbytes") else method
    what = f"The {part.name} in {place} is quantised by {method}"
    if method not in _METHODS:
        return replace(
            part,
            quantized=method,
            problem=f"{what}, which can't be trained through.",
            hint="take the release that is not quantised, or one quantised by bitsandbytes",
        )
    module, package = _METHODS[method]
    try:
        is_there = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        is_there = False
    if is_there:
        return replace(part, quantized=method)
    problem = f"{what}, which is not installed."
    return replace(part, quantized=method, problem=problem, hint=f"pip install {package}")


def _with_weights(part: PartFiles, place: Path, library: str, variant: str) -> PartFiles:
    """The part with what its weights' headers say."""
    names = listed(place)
    stems = {"safetensors": "model", "bin": "pytorch_model"}
    for end, plain in stems.items():
        stem = plain if library == "transformers" else "diffusion_pytorch_model"
        for kind in dict.fromkeys([variant, ""]):
            tail = f".{kind}" if kind else ""
            index = f"{stem}.{end}.index{tail}.json"
            if index in names:
                return _sharded(part, place, index)
            if f"{stem}{tail}.{end}" in names:
                return _read_headers(part, [place / f"{stem}{tail}.{end}"])
    shards = [name for name in names if "-of-" in name and WEIGHTS.fullmatch(name)]
    others = [name for name in names if Path(name).suffix in {".safetensors", ".bin", ".ckpt"}]
    if shards:
        problem = f"{place} has pieces of weights, such as {shards[0]}, and no index of them."
        return replace(part, problem=problem, hint=f"{AGAIN}: the .index.json next to them, too")
    wanted = "model" if library == "transformers" else "diffusion_pytorch_model"
    problem = f"The {part.name} has no weights: there is no {wanted}.safetensors in {place}."
    if others:
        return replace(
            part,
            problem=f"{problem[:-1]}, only {', '.join(others[:_KEPT])}.",
            hint=f"if {others[0]} holds its weights, rename it to {wanted}.safetensors",
        )
    return replace(part, problem=problem, hint=f"{AGAIN}: the whole folder {part.name}")


def _sharded(part: PartFiles, place: Path, index: str) -> PartFiles:
    try:
        value = read_json(place / index)
        table = value["weight_map"]
        files = {str(name): place / Path(str(file)).name for name, file in table.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        problem = f"The {part.name} can't be loaded: {place / index} is no index of weights."
        return replace(part, problem=problem, hint=AGAIN)
    chosen = sorted(set(files.values()))
    missing = [path for path in chosen if not path.exists()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        return replace(
            part,
            problem=f"The {part.name} can't be loaded: {missing[0]}{more} is not there, and "
            f"{index} names it.",
            hint=f"download it again: {missing[0].name}",
        )
    found = _read_headers(part, chosen)
    lost = [name for name in files if name not in found.tensors]
    if lost and not found.problem:
        problem = f"The {part.name} can't be loaded: {index} names {lost[0]}, which no file holds."
        return replace(found, problem=problem, hint=f"{AGAIN}: the whole folder {part.name}")
    return found


def _read_headers(part: PartFiles, files: list[Path]) -> PartFiles:
    tensors: dict[str, tuple[tuple[int, ...], str]] = {}
    for path in files:
        try:
            tensors.update(_header(path))
        except (SafetensorError, OSError, ValueError, RuntimeError, EOFError) as error:
            return replace(
                part,
                files=tuple(files),
                problem=f"The {part.name} can't be loaded: {path} is damaged, or cut short: "
                f"{reason_of(error)}",
                hint=f"download it again: {path.name}",
            )
    size = sum(path.stat().st_size for path in files)
    return replace(part, files=tuple(files), size=size, tensors=tensors)


def _header(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every tensor of a file.

    Raises:
        SafetensorError, OSError, ValueError, RuntimeError, EOFError: it is not what its name says.
    """
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {n: (tuple(s.get_shape()), _dtype(s)) for n, s in slices.items()}
    # Of the older kind of file; nothing but tensors is unpickled, and none of them is read.
    try:
        state = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ValueError(str(error).split("\n")[0]) from error
    return {
        str(name): (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def _dtype(tensor: Any) -> str:  # noqa: ANN401 - of safetensors
    """As PyTorch calls it."""
    name = str(tensor.get_dtype())
    return _DTYPES.get(name, name)
