"""Weights that come as one file of a state dict: found, read, and put into a model."""

from __future__ import annotations

import importlib
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ddrl.disk import may_be_hub_id
from ddrl.errors import WeightsError
from ddrl.rewards.networks.towers import UNREADABLE, check_keys

_BROKEN: tuple[type[Exception], ...] = (*UNREADABLE, EOFError)  # what reading a file raises

_Model = TypeVar("_Model", bound=nn.Module)

_WRAPPERS = ("state_dict", "model")
"""Keys under which training code puts a state dict beside the state of the training."""


def find_file(weights: str, name: str) -> Path:
    """The file that is named, or ``name`` in the folder or hub id that is named.

    Args:
        weights: a file, a folder, or a hub id, from which the file is downloaded if need be.
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

    try:
        return Path(hf_hub_download(weights, name))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{name} of {weights} can't be loaded: {' '.join(str(error).split())[:300]}",
            hint="offline, download the file and name it, or its folder, as weights",
        ) from error


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, mapped rather than read where its format allows.

    Args:
        path: of safetensors, or of ``torch.save``, which is read with ``weights_only=True``.

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
            f"{path} can't be read: {' '.join(str(error).split())[:200]}.",
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
    """Sizes of a model, read off its weights.

    Args:
        state: the weights.
        names: of weights, and the dimensions that each has to have.
        where: for messages.

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
    """A model with these weights and no others.

    Args:
        make: makes the model, of which no weight takes memory.
        state: weights in the model's names.
        where: they come from, for messages.
        hint: what to do where one has another shape.

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
            f"{where} does not fit its {type(model).__name__}: "
            f"{' '.join(str(error).split())[:300]}",
            hint=hint,
        ) from error
    check_keys(where, result.missing_keys, result.unexpected_keys)
    return model
