"""An adapter as other tools read it: names and keys by format, the strength in the weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ddrl.errors import UsageError, WeightsError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.families.wan.experts import WanExperts
from ddrl.models.lora.adapter import ADAPTER, has_lora
from ddrl.models.lora.names import LoRAFormat

LORA_FILE = "pytorch_lora_weights.safetensors"
LORA_FILE_2 = "pytorch_lora_weights_2.safetensors"
"""File of the second expert's adapter: diffusers loads each expert's from a file of its own."""

METADATA = "lora_adapter_metadata"
"""Key in a file's header under which diffusers looks for rank and alpha."""


def save_lora(
    model: DiffusersModel,
    folder: Path,
    *,
    format: LoRAFormat = "diffusers",
    dtype: torch.dtype | None = None,
) -> tuple[str, ...]:
    """Write the adapter so that strength 1 is the trained strength.

    The factor alpha / rank is multiplied into the second matrix, and alpha is given as the rank.
    Tools that read alpha and tools that read the tensors alone then compute the same.

    Args:
        model: model with an adapter of :func:`~ddrl.models.lora.adapter.add_lora`.
        folder: folder to write to; made if it is missing.
        format: format of the keys.
        dtype: dtype of the tensors; default: the adapter's, float32.

    Returns:
        The calls that load it, where ``pipeline`` is the base and ``{folder}`` stands for
        the folder; none for a format that diffusers does not read of every family.

    Raises:
        UsageError: the format is not known of the family, or can't hold the adapter.
        WeightsError: the model has no adapter, or diffusers can't load one into it.
    """
    from peft import get_peft_model_state_dict

    network: Any = model.transformer
    if not has_lora(network):
        raise WeightsError("The model has no adapter.", hint="save the whole pipeline instead")
    is_loaded = hasattr(model.pipeline, "load_lora_weights")
    if format == "diffusers" and not (is_loaded or hasattr(network, "load_lora_adapter")):
        raise WeightsError(
            f"diffusers can't save an adapter of a {type(network).__name__}.",
            hint="add --merged, and the whole model is exported with the adapter in it",
        )
    config = network.peft_config[ADAPTER]
    check_format(model, format, dora=config.use_dora)
    folder.mkdir(parents=True, exist_ok=True)
    weights: Mapping[str, Tensor] = get_peft_model_state_dict(
        network, adapter_name=ADAPTER, save_embedding_layers=False
    )
    folded = _folded(weights, network, dtype)
    parts = {LORA_FILE: ""}
    if isinstance(network, WanExperts):
        parts = {LORA_FILE: "transformer.", LORA_FILE_2: "transformer_2."}
    for file, part in parts.items():
        mine = {n.removeprefix(part): w for n, w in folded.items() if n.startswith(part)}
        if format == "diffusers":
            prefix = _diffusers_prefix(model) if is_loaded else ""
            _save_for_diffusers(mine, folder / file, prefix=prefix, dora=config.use_dora)
        else:
            save_file(_renamed(mine, model, format), folder / file, metadata={"format": "pt"})
    return _calls(tuple(parts), is_loaded=is_loaded) if format == "diffusers" else ()


def check_format(model: DiffusersModel, format: LoRAFormat, *, dora: bool) -> None:
    """Refuse a format that can't hold a model's adapter.

    Raises:
        UsageError: no tool is known to read the format for this family, or DoRA in it.
    """
    if format == "diffusers":
        return
    names, kind = model.lora_names, type(model).__name__
    known = [other for other in ("comfyui", "kohya") if names.prefix(other)]
    if not names.prefix(format):
        others = [f"--format {other}" for other in ("diffusers", *known)]
        raise UsageError(
            f"An adapter of {kind} has no keys in the format {format}.",
            hint=f"{kind} is exported with {' or '.join(others)}",
        )
    if dora:
        raise UsageError(
            f"The format {format} is not written for DoRA, whose keys differ from tool to tool.",
            hint="export it with --format diffusers, or merged into the base with --merged",
        )


def alpha_of_header(metadata: Mapping[str, str]) -> float | None:
    """The alpha that the header of a file in diffusers' format states, for all of its modules."""
    try:
        about = json.loads(metadata.get(METADATA, "{}"))
        found = [value for key, value in about.items() if key.split(".")[-1] == "lora_alpha"]
        patterns = [value for key, value in about.items() if key.endswith("alpha_pattern")]
        return float(found[0]) if found and not any(patterns) else None
    except (ValueError, TypeError, AttributeError):
        return None


def _folded(
    weights: Mapping[str, Tensor],
    network: Any,  # noqa: ANN401 - peft is untyped
    dtype: torch.dtype | None,
) -> dict[str, Tensor]:
    """The weights with each module's scale in its second matrix."""
    folded = {}
    for name, weight in weights.items():
        module, is_second, _ = name.partition(".lora_B.")
        if is_second:
            weight = weight * network.get_submodule(module).scaling[ADAPTER]
        folded[name] = weight.detach().to("cpu", dtype or weight.dtype).contiguous()
    return folded


def _diffusers_prefix(model: DiffusersModel) -> str:
    return "unet." if hasattr(model.pipeline, "unet") else "transformer."


def _save_for_diffusers(
    weights: Mapping[str, Tensor], path: Path, *, prefix: str, dora: bool
) -> None:
    """Write one network's file, with a header from which diffusers makes the adapter."""
    ranks = {n.partition(".lora_A.")[0]: len(w) for n, w in weights.items() if ".lora_A." in n}
    rank = max(ranks.values())
    others = {f"^{re.escape(n)}": r for n, r in ranks.items() if r != rank}
    about = {
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": others,
        "alpha_pattern": others,
        # By name: peft's own list is shortened to endings that may fit more in another network.
        "target_modules": sorted(ranks),
        "use_dora": dora,
    }
    header = json.dumps({prefix + key: value for key, value in about.items()}, sort_keys=True)
    tensors = {prefix + name: weight for name, weight in weights.items()}
    save_file(tensors, path, metadata={"format": "pt", METADATA: header})


def _renamed(
    weights: Mapping[str, Tensor], model: DiffusersModel, format: LoRAFormat
) -> dict[str, Tensor]:
    """The weights under another tool's keys; kohya's have a tensor ``alpha`` for each module."""
    tensors = {}
    for name, weight in weights.items():
        module, _, rest = name.partition(".lora_")
        key, which = model.lora_names.module(module, format), rest[0]
        if format == "comfyui":
            tensors[f"{key}.lora_{which}.weight"] = weight
            continue
        tensors[f"{key}.lora_{'down' if which == 'A' else 'up'}.weight"] = weight
        if which == "A":
            tensors[f"{key}.alpha"] = torch.tensor(float(len(weight)), dtype=weight.dtype)
    return tensors


def _calls(files: tuple[str, ...], *, is_loaded: bool) -> tuple[str, ...]:
    """The lines of Python that load the files into a pipeline."""
    if not is_loaded:  # its network knows of adapters, and the pipeline does not
        return (
            f'pipeline.transformer.load_lora_adapter("{{folder}}", weight_name="{files[0]}", '
            "prefix=None)",
        )
    calls = ['pipeline.load_lora_weights("{folder}")']
    calls += [
        f'pipeline.load_lora_weights("{{folder}}", weight_name="{file}", '
        "load_into_transformer_2=True)"
        for file in files[1:]
    ]
    return tuple(calls)
