"""Hashes of what samples of a model depend on: its weights, and what it sees of a prompt."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from torch import Tensor, nn

from ddrl.models.base import DiffusionModel
from ddrl.models.diffusers_model import DiffusersModel
from ddrl.records import Condition

__all__ = ["condition_hash", "weights_hash"]

_WEIGHTS = 4096  # numbers of a weight that are looked at, evenly spread; all of a smaller one


def weights_hash(model: DiffusionModel) -> str:
    """A hash of the network without its adapter, and of what turns its output into a velocity."""
    digest = hashlib.sha256(type(model).__name__.encode())
    if isinstance(model, DiffusersModel):
        scheduler = dict(model.pipeline.scheduler.config)
        digest.update(json.dumps(scheduler, sort_keys=True, default=str).encode())
    network: nn.Module = model.transformer
    tensors = {
        name.replace(".base_layer.", "."): tensor.detach()
        for named in (network.named_parameters(), network.named_buffers())
        for name, tensor in named
        if "lora_" not in name
    }
    for name in sorted(tensors):
        tensor = tensors[name]
        every = max(1, tensor.numel() // _WEIGHTS)
        digest.update(f"{name}/{tensor.dtype}/{tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor.flatten()[::every]))
    return digest.hexdigest()


def condition_hash(condition: Condition) -> str:
    """A hash of what the network sees of a prompt: embeddings, and given frames if there are."""
    digest = hashlib.sha256()
    for field in dataclasses.fields(condition):
        value = getattr(condition, field.name)
        digest.update(field.name.encode())
        if value is not None:
            digest.update(f"{value.dtype}/{tuple(value.shape)}".encode() + _bytes(value))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    values = tensor.detach().cpu().contiguous()
    # NumPy has no bfloat16; in float32 each of its values is its own.
    return (values.float() if values.is_floating_point() else values).numpy().tobytes()
