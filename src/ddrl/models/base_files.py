"""What lies in a pipeline's folder, part by part: files, variants, shapes; no weight is read."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ddrl.disk import read_json
from ddrl.errors import WeightsError
from ddrl.models.configs import (
    NOT_LOADED,
    PipelineConfigs,
    is_offline,
    local_folder,
    part_class,
    reason_of,
)
from ddrl.models.weight_formats import AGAIN, is_pointer, pointer_problem

__all__ = ["BaseFiles", "PartFiles", "read_base"]

_WEIGHTS = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)"
    r"(?:\.(?P<variant>[A-Za-z0-9_]+?))?(?:-\d{5}-of-\d{5})?\.(?P<end>safetensors|bin)"
)
_METHODS = {  # how a network is quantised -> the module that reads it, and its package
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "torchao": ("torchao", "torchao"),
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "modelopt": ("modelopt", "nvidia-modelopt"),
}
_KEPT = 3  # names that a message lists


@dataclass(frozen=True)
class PartFiles:
    """One component of a pipeline, as far as its files tell.

    Attributes:
        name: in ``model_index.json``.
        kind: the name of its class; empty: the model is without it.
        files: those with weights that would be loaded.
        size: of them, in bytes.
        tensors: name -> shape and type, as the files' headers say.
        quantized: the method, such as "bitsandbytes"; empty: its weights are plain numbers.
        problem: why it can't be loaded, as a sentence; empty: it can.
        hint: what to do about it.
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


@dataclass(frozen=True)
class BaseFiles:
    """A pipeline, as far as its files tell.

    Attributes:
        path: as it was given.
        class_name: of the pipeline.
        parts: its components, in the order of the index.
        variant: of the weights that are loaded where a part has it; empty: the plain ones.
        is_here: whether there is a folder to look into; if not, the hub is asked when it is loaded.
    """

    path: str
    class_name: str
    parts: tuple[PartFiles, ...] = ()
    variant: str = ""
    is_here: bool = True

    def check(self) -> None:
        """See that every part can be loaded.

        Raises:
            WeightsError: one can't; it says which, and why.
        """
        for part in self.parts:
            if part.problem:
                raise WeightsError(part.problem, hint=part.hint)


def read_base(path: str | Path, *, variant: str = "") -> BaseFiles:
    """Look at all files of a pipeline that would be loaded.

    Args:
        path: a folder, a hub id, or ``id@revision``; of a hub id, what the hub's cache holds.
        variant: of the weights, such as "fp16"; empty: the plain ones, or the only variant there.

    Raises:
        WeightsError: it is no pipeline, or has no such variant.
    """
    configs = PipelineConfigs.find(path)
    folder = local_folder(path)
    if folder is None or not (folder == Path(path) or is_offline()):
        # What the hub's cache lacks is downloaded.
        return BaseFiles(str(path), configs.class_name, variant=variant, is_here=False)
    named = {
        name: (str(value[0]), str(value[1]))
        for name, value in configs.index.items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)
    }
    without = (*configs.left_out(), *NOT_LOADED.get(configs.class_name, ()))
    without = tuple(name for name in without if name in configs.index)
    parts = [PartFiles(name) for name in without]
    chosen = _variant(folder, [name for name in named if name not in without], variant)
    for name, (library, class_name) in named.items():
        if name not in without:
            parts.append(_part(folder, name, library, class_name, chosen))
    order = list(configs.index)
    parts.sort(key=lambda part: order.index(part.name))
    return BaseFiles(str(path), configs.class_name, tuple(parts), chosen)


def _variant(folder: Path, names: Iterable[str], asked: str) -> str:
    """The variant that is loaded.

    Raises:
        WeightsError: the one that is asked for is not there, or one has to be chosen.
    """
    offered = {name: _variants(folder / name) for name in names}
    known = sorted({v for found in offered.values() for v in found if v})
    if asked:
        if asked in known:
            return asked
        kinds = ", ".join(known)
        raise WeightsError(
            f"{folder} has no weights of the variant {asked}.",
            hint=f"its variants are {kinds}: model.variant={known[0]}"
            if known
            else "its weights are of no variant: leave model.variant empty",
        )
    needed = [found for found in offered.values() if found and "" not in found]
    common = sorted(set.intersection(*needed)) if needed else []
    if len(common) > 1:
        raise WeightsError(
            f"{folder} has weights of several variants, and none without: {', '.join(common)}.",
            hint=f"choose one: model.variant={common[0]}",
        )
    return common[0] if common else ""


def _variants(folder: Path) -> set[str]:
    """Variants of a part's weights; "" stands for those of none."""
    found = (_WEIGHTS.fullmatch(name) for name in _listed(folder))
    return {match["variant"] or "" for match in found if match}


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def _part(folder: Path, name: str, library: str, class_name: str, variant: str) -> PartFiles:
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
        return part if _listed(place) else replace(part, problem=_empty(name, place), hint=AGAIN)
    try:
        config = read_json(place / "config.json")
        if not isinstance(config, dict):
            raise ValueError("it is no table")
    except (OSError, ValueError):
        problem = f"{folder} can't be planned: its {name}/config.json can't be read."
        return replace(part, problem=problem, hint=f"{AGAIN}: the whole folder {name}")
    part = replace(part, **_quantized(name, place, config))
    return part if part.problem else _with_weights(part, place, library, variant)


def _empty(name: str, place: Path) -> str:
    return f"The {name} can't be loaded: {place} is empty."


def _quantized(name: str, place: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Whether, and what is missing to read it."""
    section = config.get("quantization_config")
    if not isinstance(section, dict):
        return {}
    method = str(section.get("quant_method") or "an unknown method")
    method = "bitsandbytes" if method.startswith("bitsandbytes") else method
    if method not in _METHODS:
        return {
            "quantized": method,
            "problem": f"The {name} in {place} is quantised by {method}, which can't be trained "
            "through.",
            "hint": "take the release that is not quantised, or one quantised by bitsandbytes",
        }
    module, package = _METHODS[method]
    try:
        is_there = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        is_there = False
    if is_there:
        return {"quantized": method}
    return {
        "quantized": method,
        "problem": f"The {name} in {place} is quantised by {method}, which is not installed.",
        "hint": f"pip install {package}",
    }


def _with_weights(part: PartFiles, place: Path, library: str, variant: str) -> PartFiles:
    """The part with what its weights' headers say."""
    names = _listed(place)
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
    shards = [name for name in names if "-of-" in name and _WEIGHTS.fullmatch(name)]
    others = [name for name in names if Path(name).suffix in {".safetensors", ".bin", ".ckpt"}]
    if shards:
        problem = f"{place} has pieces of weights, such as {shards[0]}, and no index of them."
        return replace(part, problem=problem, hint=f"{AGAIN}: the .index.json beside them, too")
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
            return {n: (tuple(s.get_shape()), str(s.get_dtype())) for n, s in slices.items()}
    import pickle

    try:
        state = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ValueError(str(error).split("\n")[0]) from error
    return {
        str(name): (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }
