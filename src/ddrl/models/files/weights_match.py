"""Checks that a pipeline's files hold the weights of its configs, by names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ddrl.errors import WeightsError
from ddrl.models.files.base_files import BaseFiles
from ddrl.models.files.part_files import PartFiles

TRAINED = ("transformer", "transformer_2", "unet")
"""Names that pipelines give to the networks that are trained."""

_SHOWN = 3
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_BLOCK = re.compile(r"(.*?)\.(\d+)\.")
_IN_BLOCK = re.compile(r"[^.]+\.\d+\..*")

Shapes = Mapping[str, tuple[int, ...]]


def check_weights(base: BaseFiles, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is untyped
    """Compare every part's files with its network.

    A network that is trained has to use all weights of its files. A frozen one may leave some out,
    as the encoder of a T5 does. Names of text encoders change between versions of transformers:
    of these only missing blocks, and other shapes under the same name, are found.

    Args:
        base: content of the files.
        pipeline: pipeline that its configs make: loaded, or a sketch without weights.

    Raises:
        WeightsError: they disagree; it names the part and the first weights.
    """
    for part in base.parts:
        network = getattr(pipeline, part.name, None)
        if isinstance(network, nn.Module) and part.tensors and not part.quantized:
            _check(base.path, part, network)


def _check(path: str, part: PartFiles, network: nn.Module) -> None:
    found = {name: shape for name, (shape, _) in part.tensors.items()}
    is_ours = hasattr(network, "_fix_state_dict_keys_on_load")  # of diffusers
    if is_ours:
        found = _renamed(network, found)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    others = [name for name in expected if found.get(name, expected[name]) != expected[name]]
    missing = _missing(network, expected, found)
    unused = _unused(network, expected, found) if part.name in TRAINED else []
    if not is_ours:
        missing = _missing_blocks(missing, found)
    blocks = _blocks(expected, found)
    if missing:  # before shapes: a last block has others
        what = f"{blocks}its files have no {_some(missing)}"
    elif unused:
        what = f"{blocks}the config has no place for {_some(unused)}"
    elif others:
        name = others[0]
        what = f"{name} is {_sizes(found[name])} in the file and {_sizes(expected[name])} by the "
        what += "config" + (f", and so on for {len(others) - 1} more" if len(others) > 1 else "")
    else:
        return
    raise WeightsError(
        f"Config and weights of the {part.name} of {path} disagree: {what}.",
        hint=f"take {part.name}/config.json and the weights next to it from one and the same "
        "download",
    )


def _renamed(network: Any, found: Shapes) -> dict[str, tuple[int, ...]]:  # noqa: ANN401
    """Names as diffusers reads them: those of early attention have changed."""
    state = {name: torch.empty(shape, device="meta") for name, shape in found.items()}
    network._fix_state_dict_keys_on_load(state)
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _missing(network: nn.Module, expected: Shapes, found: Shapes) -> list[str]:
    """Names that no file holds, neither under another name of the same tensor."""
    tied: dict[int, bool] = {}
    tensors = network.state_dict(keep_vars=True)
    for name, tensor in tensors.items():
        tied[id(tensor)] = tied.get(id(tensor), False) or name in found
    return [name for name in expected if name not in found and not tied[id(tensors[name])]]


def _missing_blocks(missing: Sequence[str], found: Shapes) -> list[str]:
    """Those of which the files have the same tensor of another block, whatever stands before."""
    ends = {_from_block(name) for name in found}
    kinds = {_NUMBER.sub("*", end) for end in ends}
    return [
        name
        for name in missing
        if (end := _from_block(name)) and end not in ends and _NUMBER.sub("*", end) in kinds
    ]


def _from_block(name: str) -> str:
    """A name from its first numbered list on, such as layers.3.mlp.weight; empty: it has none."""
    found = _IN_BLOCK.search(name)
    return found[0] if found else ""


def _unused(network: nn.Module, expected: Shapes, found: Shapes) -> list[str]:
    ignored: Sequence[str] = getattr(network, "_keys_to_ignore_on_load_unexpected", None) or ()
    names = [name for name in found if name not in expected]
    return [name for name in names if not any(re.search(rule, name) for rule in ignored)]


def _blocks(expected: Shapes, found: Shapes) -> str:
    """The first list of blocks that is longer on one side, as the start of a clause."""
    for name in (*expected, *found):
        head = _BLOCK.match(name)
        if head is None:
            continue
        asked, held = (_length(head[1], shapes) for shapes in (expected, found))
        if asked != held and asked and held:
            return f"the config has {asked} of {head[1]} and the files {held}; "
    return ""


def _length(head: str, shapes: Shapes) -> int:
    """Count the blocks of a list."""
    heads = (_BLOCK.match(name) for name in shapes)
    return len({found[2] for found in heads if found and found[1] == head})


def _some(names: Sequence[str]) -> str:
    first = ", ".join(names[:_SHOWN])
    return first + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"
