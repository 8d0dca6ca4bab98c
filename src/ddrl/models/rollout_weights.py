"""Weights that are made once per rollout: the adapter merged, all of them in one type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ddrl.models.compiling import repeated_blocks

_CAST_BY_AUTOCAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@contextmanager
def merged_weights(
    network: nn.Module,
    *,
    autocast: torch.dtype | None = None,
    seed: int = 0,
    is_traced: bool = False,
) -> Iterator[None]:
    """Have a network compute with its adapter merged, and with matrices that need no cast.

    A layer then is one matrix product, without the adapter's two and without casts. Sums are made
    in float32. Those of a bfloat16 base are rounded up or down at random, with the mean of the
    exact sum: rounded to the nearest, an adapter that is small beside its weights would be lost.
    Afterwards every weight is the tensor that it was, bit for bit.

    Args:
        network: network, with an adapter or without.
        autocast: type that autocast computes float32 matrices in. They are cast once, as it would
            at every use, which changes no number. Default: none are.
        seed: seed of the rounding; equal seeds give equal weights.
        is_traced: leave the sums out, of weights that only have shapes and types.

    """
    layers = _adapted(network)
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            if is_traced:
                for layer in layers:
                    layer.merged_adapters.append(layer.active_adapters[0])
            else:
                _merge(layers, kept, seed)
            for weight in _castable(network) if autocast else ():
                kept.append((weight, weight.data))
                weight.data = weight.data.to(autocast)
        yield
    finally:
        for layer in layers:
            layer.merged_adapters.clear()
        for tensor, data in reversed(kept):  # one that was merged, then cast, is here twice
            tensor.data = data


def merged_bytes(network: nn.Module, *, autocast: torch.dtype | None = None) -> int:
    """Bytes of the weights that :func:`merged_weights` makes, beside those that stay.

    Args:
        network: network, which may be a sketch.
        autocast: as there.
    """
    width = autocast.itemsize if autocast else 0
    adapted = [_weight(layer) for layer in _adapted(network)]
    sizes = {id(weight): weight.numel() * weight.element_size() for weight in adapted}
    if width:
        sizes |= {id(tensor): tensor.numel() * width for tensor in _castable(network)}
    return sum(sizes.values())


def _adapted(network: nn.Module) -> list:  # type: ignore[type-arg]  # of peft, which is untyped
    """The layers with an adapter."""
    if not any("lora_" in name for name, _ in network.named_parameters()):
        return []
    from peft.tuners.lora import LoraLayer

    return [module for module in network.modules() if isinstance(module, LoraLayer)]


def _weight(layer: object) -> nn.Parameter:
    weight: nn.Parameter = layer.get_base_layer().weight  # type: ignore[attr-defined]
    return weight


def _merge(layers: list, kept: list[tuple[Tensor, Tensor]], seed: int) -> None:  # type: ignore[type-arg]
    generators: dict[torch.device, torch.Generator] = {}
    for layer in layers:
        weight, before = _weight(layer), _weight(layer).data
        kept.append((weight, before))
        weight.data = before.clone() if before.dtype == torch.float32 else before.float()
        layer.merge()
        if before.dtype == torch.float32:
            continue
        if weight.device not in generators:
            generators[weight.device] = torch.Generator(weight.device).manual_seed(seed)
        weight.data = round_at_random(weight.data, before.dtype, generators[weight.device])


def round_at_random(x: Tensor, dtype: torch.dtype, rng: torch.Generator) -> Tensor:
    """Round float32 numbers to bfloat16 up or down, so that their mean is the number itself.

    Args:
        x: float32, which may be written over.
        dtype: bfloat16; to other types numbers are rounded to the nearest.
        rng: generator on the device of ``x``.
    """
    if dtype != torch.bfloat16:
        return x.to(dtype)
    # A bfloat16 is the upper half of a float32's bits: what the lower half holds is carried over
    # with a probability of its share.
    bits = x.view(torch.int32)
    noise = torch.randint(1 << 16, x.shape, generator=rng, device=x.device, dtype=torch.int32)
    return bits.add_(noise).bitwise_and_(-(1 << 16)).view(torch.float32).to(dtype)


def _castable(network: nn.Module) -> Iterator[nn.Parameter]:
    """The float32 weights and biases of matrix products and convolutions in repeated blocks.

    Elsewhere a network may ask its weights for the type that it computes in, and the first tells
    what type its inputs have.
    """
    first = next(network.parameters(), None)
    for block in repeated_blocks(network):
        for name, part in block.named_modules():
            own = list(part.parameters(recurse=False))
            is_cast = isinstance(part, _CAST_BY_AUTOCAST) and "lora_" not in name
            if is_cast and not any(tensor is first for tensor in own):
                yield from (tensor for tensor in own if tensor.dtype == torch.float32)
