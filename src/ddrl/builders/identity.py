"""Hashes of what a base is and of what it sees, over every byte; equal wherever it lies.

Paths, file formats and the versions that wrote a file are left out: a base that was moved, or saved
in other pieces, is the same base. Its type of numbers is not: what is hashed is what is computed
with.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.base import DiffusionModel
from ddrl.models.tiny.model import TinyModel
from ddrl.records import Condition

_CHUNK = 1 << 21  # bytes that are summed at once
_INCIDENTAL = {"name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}

_known: WeakKeyDictionary[nn.Module, tuple[object, str]] = WeakKeyDictionary()
"""Of parts that nothing has changed since: the large ones are asked for several times."""


def base_parts(model: DiffusionModel) -> dict[str, str]:
    """A hash of every part of a base by its name.

    An adapter counts where it changes the base already, as one that a run goes on with does.
    """
    if isinstance(model, DiffusersModel):
        found = {}
        for name, part in model.pipeline.components.items():
            if isinstance(part, nn.Module):
                found[name] = _module_hash(part)
            elif hasattr(part, "config") or hasattr(part, "to_dict") or hasattr(part, "get_vocab"):
                found[name] = text_hash(_told(part))
        return {**found, **_start(model)}
    if isinstance(model, TinyModel):
        config = text_hash(dataclasses.asdict(model.config))
        return {"network": text_hash([config, _module_hash(model.transformer)])}
    return {"network": _module_hash(model.transformer)}


def trained_part(model: DiffusionModel) -> str:
    """The name of the part that is trained."""
    if isinstance(model, DiffusersModel):
        parts = model.pipeline.components.items()
        return next((name for name, part in parts if part is model.transformer), "")
    return "network"


def encoder_hash(model: DiffusersModel) -> str:
    """A hash of what latents and embeddings depend on: all but the network that is trained."""
    frozen = [_module_hash(part) for part in model.frozen_parts()]
    parts = {
        name: text_hash(_told(part))
        for name, part in model.pipeline.components.items()
        if not isinstance(part, nn.Module) and name != "scheduler"
    }
    # Such as how many tokens a text may have.
    settings = {
        name: value
        for name, value in vars(model).items()
        if isinstance(value, bool | int | float | str) and name != "embedded_guidance"
    }
    config = _settings(dict(model.pipeline.config))
    return text_hash([type(model).__name__, frozen, parts, settings, config])


def weights_hash(model: DiffusionModel) -> str:
    """A hash of the network, and of what turns its output into a velocity.

    No adapter counts: samples of the base are drawn without one, also where a run goes on with it.
    """
    told: list[object] = [{}]
    if isinstance(model, DiffusersModel):
        told = [_settings(dict(model.pipeline.scheduler.config))]
        told += [] if model.embedded_guidance is None else [model.embedded_guidance]
    return text_hash([type(model).__name__, *told, _module_hash(model.transformer)])


def condition_hash(condition: Condition) -> str:
    """A hash of what the network sees of a prompt: embeddings, and given frames if there are."""
    values = {f.name: getattr(condition, f.name) for f in dataclasses.fields(condition)}
    return _tensors_hash((name, value) for name, value in values.items() if value is not None)


def text_hash(value: object) -> str:
    """A hash of JSON."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _module_hash(module: nn.Module) -> str:
    """A hash of a network's kind, settings, weights and buffers."""
    tensors = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in module.state_dict(keep_vars=True).items()
        if isinstance(tensor, Tensor) and "lora_" not in name
    }
    is_frozen = not any(tensor.requires_grad for tensor in tensors.values())
    state = [(n, t.data_ptr(), t._version) for n, t in tensors.items()]
    before, found = _known.get(module, (None, ""))
    if before != state or not is_frozen:
        kind = [type(module).__name__, _settings(getattr(module, "config", None))]
        found = text_hash([kind, _tensors_hash(tensors.items())])
        _known[module] = (state, found)
    return found


def _start(model: DiffusionModel) -> dict[str, str]:
    """A hash of the adapter, where it changes what the network computes."""
    adapter = {n: p for n, p in model.transformer.named_parameters() if "lora_" in n}
    if not any(".lora_B." in name and bool(value.any()) for name, value in adapter.items()):
        return {}
    return {"adapter": _tensors_hash(adapter.items())}


def _settings(config: Any) -> Any:  # noqa: ANN401 - of any library
    """A configuration without what depends on its place, or on what wrote it."""
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    if isinstance(config, Mapping):
        return {
            str(key): _settings(value)
            for key, value in config.items()
            if not str(key).startswith("_") and key not in _INCIDENTAL
        }
    if isinstance(config, list | tuple):
        return [_settings(value) for value in config]
    if isinstance(config, set | frozenset):
        return sorted(map(str, map(_settings, config)))
    if isinstance(config, bool | int | float | str | None):
        return config
    # An object may tell its place in memory, which every process has another of.
    return re.sub(r" at 0x[0-9a-f]+", "", str(config))


def _told(part: Any) -> object:  # noqa: ANN401 - of any library
    """What a tokenizer, a processor or a scheduler does, as JSON."""
    inner = [_told(part.tokenizer)] if hasattr(part, "tokenizer") else []
    if hasattr(part, "get_vocab"):
        return [type(part).__name__, _tokenizer(part)]
    config = getattr(part, "config", None)
    return [type(part).__name__, _settings(part if config is None else config), *inner]


def _tokenizer(tokenizer: Any) -> object:  # noqa: ANN401 - of transformers
    if hasattr(tokenizer, "backend_tokenizer"):
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        rules.pop("truncation", None)  # these two are of the last call
        rules.pop("padding", None)
    else:
        model = getattr(tokenizer, "sp_model", None)
        proto = model.serialized_model_proto() if model is not None else b""
        ranks = {str(pair): rank for pair, rank in getattr(tokenizer, "bpe_ranks", {}).items()}
        rules = [tokenizer.get_vocab(), hashlib.sha256(proto).hexdigest(), ranks]
    names = ("model_max_length", "padding_side", "truncation_side", "chat_template")
    settings = {name: getattr(tokenizer, name, None) for name in names}
    return [rules, settings, _settings(tokenizer.special_tokens_map)]


def _tensors_hash(tensors: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    plain = (one for name, tensor in tensors for one in _plain(name, tensor))
    for name, tensor in sorted(plain, key=lambda entry: entry[0]):
        digest.update(f"{name}/{tensor.dtype}/{tuple(tensor.shape)}".encode())
        digest.update(_sums(tensor.detach()).cpu().numpy().tobytes())
    return digest.hexdigest()


def _plain(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A tensor, or those that it is made of: of a quantised one the integers and their scales."""
    if not is_traceable_wrapper_subclass(tensor):
        yield name, tensor
        return
    for inner in tensor.__tensor_flatten__()[0]:
        yield from _plain(f"{name}/{inner}", getattr(tensor, inner))


def _sums(tensor: Tensor) -> Tensor:
    """A weighted sum of every chunk of a tensor's bytes, modulo 2^64, where the tensor is.

    Integers wrap around, so the order of the sum does not matter, and a GPU finds what a CPU does.
    Weights are odd, so that a change in one place always changes the sum.
    """
    flat = tensor.contiguous().reshape(-1)
    raw = flat.view(torch.uint8) if len(flat) else torch.empty(0, dtype=torch.uint8)
    weights = _weights(raw.device)
    held = torch.zeros(_CHUNK, dtype=torch.uint8, device=raw.device)
    words, sums = held.view(torch.int64), []
    for start in range(0, len(raw), _CHUNK):
        part = raw[start : start + _CHUNK]
        if len(part) == _CHUNK and part.storage_offset() % 8 == 0:
            sums.append(torch.mul(part.view(torch.int64), weights, out=words).sum())
            continue
        held[: len(part)].copy_(part)
        held[len(part) :].zero_()
        sums.append(words.mul_(weights).sum())
    return torch.stack(sums) if sums else torch.zeros(0, dtype=torch.int64)


def _weights(device: torch.device) -> Tensor:
    """Odd integers without a pattern: the mixing of SplitMix64."""
    mixed = torch.arange(1, _CHUNK // 8 + 1, device=device) * -0x61C8864680B583EB
    mixed = (mixed ^ (mixed >> 30)) * -0x40A7B892E31B1A47
    mixed = (mixed ^ (mixed >> 27)) * -0x6B2FB644ECCEEE15
    return (mixed ^ (mixed >> 31)) | 1
