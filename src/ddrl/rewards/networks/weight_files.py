"""Weights that come as one file of a state dict: found, read, and put into a model."""

from __future__ import annotations

import importlib
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ddrl.disk import may_be_hub_id
from ddrl.errors import WeightsError
from ddrl.rewards.networks.loading import UNREADABLE, check_keys, loading, one_line

_BROKEN: tuple[type[Exception], ...] = (*UNREADABLE, EOFError)  # what reading a file raises

_Model = TypeVar("_Model", bound=nn.Module)

_WRAPPERS = ("state_dict", "model")
"""Keys under which training code puts a state dict, next to the state of the training."""


def find_file(weights: str, name: str) -> Path:
    """Find the file that is named, or ``name`` in the folder or hub id that is named.

    Args:
        weights: a file, a folder, or a hub id, from which the file is downloaded.
        name: what the released file is called.

    Raises:
        WeightsError: there is none.
    """
    path = Path(weights)
    if path.is_file():
        return path
    if path.is_dir():
        if (path / name).is_file():
            return path / name
        raise WeightsError(
            f"There is no {name} in {weights}.", hint="or name the file itself as weights"
        )
    if not may_be_hub_id(weights):
        raise WeightsError(
            f"There is no file or folder {weights}.",
            hint="or name owner/name of a model on the hub",
        )
    from huggingface_hub import hf_hub_download

    with loading(
        f"{name} of {weights}", "offline, download the file and name it, or its folder, as weights"
    ):
        return Path(hf_hub_download(weights, name))


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the state dict in a file, mapped where its format allows.

    Args:
        path: a file of safetensors, or of ``torch.save``, which is read with ``weights_only=True``.

    Raises:
        WeightsError: the file is broken, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: Any = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:  # PyTorch's own words advise to run what is in it
        raise WeightsError(
            f"{path} can't be read: it is broken, or holds other objects than tensors.",
            hint="nothing but tensors is read, because other objects can run code",
        ) from error
    except _BROKEN as error:
        raise WeightsError(
            f"{path} can't be read: {one_line(error, 200)}.",
            hint="see that it is whole, or download it again",
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(
            f"{path} holds no state dict: names of weights, and a tensor for each.",
            hint="give the file that the authors released, or its safetensors copy",
        )
    return dict(state)


def sizes_of(state: Mapping[str, Tensor], names: Mapping[str, int], where: str | Path) -> list[int]:
    """Read the sizes of a model off its weights.

    Args:
        state: the weights.
        names: names of weights, and how many dimensions each has to have.
        where: where they come from, for messages.

    Returns:
        The shapes of the weights, one after another.

    Raises:
        WeightsError: a weight is missing or has another number of dimensions.
    """
    check_keys(where, [name for name in names if name not in state], [])
    sizes: list[int] = []
    for name, dimensions in names.items():
        if state[name].ndim != dimensions:
            raise WeightsError(
                f"{name} of {where} has the shape {tuple(state[name].shape)}, which is not of "
                f"{dimensions} dimensions.",
                hint="the option weights names another model; take the released one",
            )
        sizes += state[name].shape
    return sizes


def fill(
    make: Callable[[], _Model], state: Mapping[str, Tensor], where: str | Path, *, hint: str = ""
) -> _Model:
    """Make a model with these weights and no others.

    Args:
        make: makes the model, without memory for its weights.
        state: weights in the model's names.
        where: where they come from, for messages.
        hint: what to do if one has another shape.

    Raises:
        WeightsError: a weight is missing, unexpected, or of another shape.
    """
    empty = importlib.import_module("accelerate").init_empty_weights
    with torch.random.fork_rng(devices=[]), empty():  # a few weights are drawn all the same
        model = make()
    try:
        result = model.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{where} does not fit its {type(model).__name__}: {one_line(error)}", hint=hint
        ) from error
    check_keys(where, result.missing_keys, result.unexpected_keys)
    return model


class LinearHead:
    """Linear layers behind a network, in float32.

    Args:
        state: their weights, and no others.
        prefix: what the names of the weights begin with, without the dot.
        numbers: the numbers of the layers in these names.
        sizes: how many numbers go in, and how many come out.
        to: what comes out, for messages.
        where: where they come from, for messages.
        hint: what to do if they have other sizes.

    Raises:
        WeightsError: a weight is missing, unexpected, or of another shape.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        prefix: str,
        numbers: Sequence[int],
        *,
        sizes: tuple[int, int],
        to: str,
        where: Path,
        hint: str,
    ) -> None:
        names = [f"{prefix}.{i}.{kind}" for i in numbers for kind in ("weight", "bias")]
        missing = [name for name in names if name not in state]
        check_keys(where, missing, [name for name in state if name not in names])
        values = [state[name].float() for name in names]
        self.layers = list(zip(values[::2], values[1::2], strict=True))
        widths = [sizes[0], *(len(bias) for _, bias in self.layers)]
        found = [tuple(weight.shape) for weight, _ in self.layers]
        if found != [(out, into) for into, out in pairwise(widths)] or widths[-1] != sizes[1]:
            raise WeightsError(
                f"{where} has layers of shapes {', '.join(map(str, found))}, which do not lead "
                f"from {sizes[0]} features to {to}.",
                hint=hint,
            )
