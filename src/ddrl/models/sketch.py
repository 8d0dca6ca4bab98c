"""A family's adapter from configs alone: every module and shape, and no weights.

A sketch is built on PyTorch's meta device, where tensors have no memory, and prepared there as a
loaded model would be. To trace what it computes, :func:`materialize` then gives it fake tensors,
which behave as if they were on the CPU.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.adapter.own_family import Family, open_own, opens_itself
from ddrl.models.families.registry import adapter_of, import_diffusers
from ddrl.models.families.wan.experts import WanExperts
from ddrl.models.files.configs import NOT_LOADED, PipelineConfigs, building, part_class

OTHER_VERSION = "its config.json may be of another version of diffusers or transformers"


class _Part:
    """Stands where a part would that holds no weights and is not planned with."""


def sketch_model(
    path: str | Path, *, dtype: torch.dtype = torch.float32, family: Family | None = None
) -> DiffusersModel:
    """Build what :func:`~ddrl.models.pretrained.load_model` would load, without its weights.

    Tokenizers, processors and safety checkers are left out: the adapter encodes nothing.

    Args:
        path: a folder with the configs of a pipeline, a hub id, or a release that ddrl knows.
        dtype: dtype of all weights.
        family: see :func:`~ddrl.models.pretrained.load_model`.

    Raises:
        UsageError: diffusers is not installed, or ``family`` is of other pipelines.
        WeightsError: a config is missing, or no pipeline that ddrl knows.
    """
    if opens_itself(family):  # there are no configs that are known: its weights are read
        return open_own(family, path, dtype=dtype)
    diffusers = import_diffusers()
    configs = PipelineConfigs.find(path)
    adapter = adapter_of(configs.class_name, path, family)
    if configs.class_name.startswith("Cosmos"):
        importlib.import_module("diffusers.models.transformers.transformer_cosmos")
    pipelines = getattr(diffusers, configs.class_name)
    known = inspect.signature(pipelines.__init__).parameters
    values: dict[str, Any] = {name: None for name in known if name != "self"}
    without = configs.left_out()
    whole = building(f"{configs.path} can't be planned", hint=OTHER_VERSION)
    with whole, _torchvision_stand_in(), torch.random.fork_rng(devices=[]):
        for name, value in configs.index.items():
            if name in without:
                continue
            if isinstance(value, list) and name in known:
                with building(f"The {name} of {configs.path} can't be planned", hint=OTHER_VERSION):
                    values[name] = _part(configs, name, value, dtype)
            elif name in known:
                values[name] = value
        for name, parameter in known.items():
            if values.get(name) is None and parameter.default not in (None, inspect._empty):
                values[name] = parameter.default
        for name in NOT_LOADED.get(configs.class_name, ()):
            values[name] = _Part()
        return adapter(pipelines(**values))


def _part(configs: PipelineConfigs, name: str, named: list[str | None], dtype: torch.dtype) -> Any:  # noqa: ANN401
    """One part on the meta device, a scheduler, or what stands for a part without weights.

    Raises:
        WeightsError: its config is missing, or names no class that is installed.
    """
    library, class_name = named
    if library is None or class_name is None:
        return None
    kind: Any = part_class(library, class_name, configs.path)
    if hasattr(kind, "set_timesteps"):  # a scheduler: small, and its tables are read
        return kind.from_config(dict(configs.part(name, "scheduler_config.json")))
    if not _is_network(kind):
        return None if "Tokenizer" in class_name else _Part()
    config = dict(configs.part(name))
    with torch.device("meta"):
        if hasattr(kind, "config_class") and hasattr(kind.config_class, "from_dict"):
            module = kind(kind.config_class.from_dict(config))
        else:
            module = kind.from_config(config)
    return _cast(module.eval(), dtype)


def _is_network(kind: Any) -> bool:  # noqa: ANN401
    return isinstance(kind, type) and issubclass(kind, nn.Module)


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Give weights the dtype that ``from_pretrained`` would: some stay in float32."""
    # transformers has two lists, of which the first is for float16 alone.
    is_of_two = hasattr(module, "_keep_in_fp32_modules_strict")
    which = "_keep_in_fp32_modules_strict" if is_of_two else "_keep_in_fp32_modules"
    kept = tuple(getattr(module, which, None) or ())
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        is_kept = any(part in kept for part in name.split("."))
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(torch.float32 if is_kept else dtype)
    return module


@contextmanager
def _torchvision_stand_in() -> Iterator[None]:
    """Let Cosmos be built without torchvision, of which it only uses one resizing of a mask."""
    module: Any = sys.modules.get("diffusers.models.transformers.transformer_cosmos")
    if module is None or hasattr(module, "transforms"):
        yield
        return

    def resize(image: Tensor, size: list[int], interpolation: object) -> Tensor:  # noqa: ARG001
        return image.new_zeros((*image.shape[:-2], *size))

    module.transforms = SimpleNamespace(
        functional=SimpleNamespace(resize=resize),
        InterpolationMode=SimpleNamespace(NEAREST="nearest"),
    )
    try:
        yield
    finally:
        del module.transforms


@contextmanager
def materialize(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Within this context networks compute, on fake tensors of the CPU.

    Args:
        networks: on any device; they are changed for good.
    """
    with _torchvision_stand_in(), FakeTensorMode(allow_non_fake_inputs=True):
        made: dict[int, Tensor] = {}
        for part in networks:
            _materialize(part, made)
            if isinstance(part, WanExperts):
                # Which expert a row takes depends on data, which a fake tensor has none of.
                part.forward = lambda *, _one=part.transformer, **inputs: _one(**inputs)  # type: ignore[method-assign]
        yield


def _materialize(root: nn.Module, made: dict[int, Tensor]) -> None:
    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            made[id(tensor)] = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        return made[id(tensor)]

    for module in root.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(fake(parameter), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = fake(buffer)
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                setattr(module, name, fake(value))
