"""A whole pipeline as files, in the type of numbers that its base is stored in."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ddrl.disk import read_json
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.lora.adapter import has_lora, merge_lora

_ABSOLUTE = re.compile(r"(?:/[^/\s]+/|~[^/\s]*/|[A-Za-z]:[\\/]|\\\\|file:)[^\n]*")
_NAMES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def save_whole(model: DiffusersModel, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write the pipeline with its adapter merged, if it has one; this changes the model.

    Args:
        model: the trained model.
        folder: folder to write to; made if it is missing.
        dtype: dtype of the trained weights; default: that of the base's own files. Frozen parts
            keep theirs.
    """
    network = model.transformer
    if has_lora(network):
        merge_lora(network)
    # Two experts are one network here and two parts of the pipeline.
    for part in model.pipeline.components.values():
        if isinstance(part, nn.Module) and not getattr(part, "is_quantized", False):
            is_trained = part is network or any(part is child for child in network.children())
            _cast(part, (dtype if is_trained else None) or stored_dtype(part), is_trained)
    model.pipeline.save_pretrained(folder)
    _forget_places(folder)


def _forget_places(folder: Path) -> None:
    """Take out of the configs where the base lay, which the libraries write into them."""
    # A model that is no pipeline has no index.
    for file in [*folder.rglob("*config.json"), *folder.glob("model_index.json")]:
        config = read_json(file)
        shared = _without_places(config)
        if shared != config:
            text = json.dumps(shared, indent=2, ensure_ascii=False) + "\n"
            file.write_text(text, encoding="utf-8")


def _without_places(value: Any) -> Any:  # noqa: ANN401 - any value of JSON
    """The same without names of what was loaded, and of other absolute paths the last part."""
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if not key.endswith("name_or_path")}
        return {key: _without_places(one) for key, one in kept.items()}
    if isinstance(value, list):
        return [_without_places(one) for one in value]
    if isinstance(value, str) and _ABSOLUTE.fullmatch(value):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value


def _cast(part: nn.Module, dtype: torch.dtype | None, is_trained: bool) -> None:
    """Cast a part, but widen nothing that was not computed with more digits than are stored."""
    now = next((p.dtype for p in part.parameters() if p.is_floating_point()), None)
    if dtype is not None and now is not None and (is_trained or dtype.itemsize < now.itemsize):
        part.to(dtype)


def stored_dtype(part: nn.Module) -> torch.dtype | None:
    """The type of most tensors in the files that a part was loaded from; None if there are none."""
    config = getattr(part, "config", None)
    place = getattr(config, "_name_or_path", "") or getattr(part, "name_or_path", "")
    found: Counter[str] = Counter()
    for file in sorted(Path(place).glob("*.safetensors")) if place else ():
        try:
            with safe_open(file, "pt") as opened:
                found.update(opened.get_slice(key).get_dtype() for key in opened.keys())  # noqa: SIM118
        except (OSError, SafetensorError):
            continue
    return next((_NAMES[name] for name, _ in found.most_common() if name in _NAMES), None)
