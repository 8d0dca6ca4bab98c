"""A model family of the user's own, named ``package.module:Class`` in a recipe."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from ddrl.errors import UsageError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.adapter.opened import METHODS, OpenedModel
from ddrl.models.files.base_files import BaseFiles
from ddrl.models.files.configs import building
from ddrl.named_code import load_named

Family = type[DiffusersModel]
"""The adapter of a family."""

SEE = "docs/models.md has a family to copy, under 'Your own family'"


def family_class(name: str) -> Family:
    """Find the adapter that a recipe names.

    Args:
        name: ``package.module:Class``; the module is installed, or in a folder of
            :func:`ddrl.named_code.look_in`.

    Raises:
        UsageError: there is no such module or class, it fails as it is loaded, or it is no adapter.
    """
    found: Any = load_named(name, what="Family")
    is_class = inspect.isclass(found)
    is_adapter = is_class and issubclass(found, DiffusersModel)
    if not is_adapter and not (is_class and hasattr(found, "open")):
        raise UsageError(
            f"Family {name!r} is no adapter: it is not a class derived from "
            "ddrl.models.adapter.diffusers_model.DiffusersModel, nor one with a classmethod open.",
            hint=f"derive it from that class; {SEE}",
        )
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    needed = ("pipelines", "lora_targets") if is_adapter else METHODS
    missing += [n for n in needed if not hasattr(found, n)]
    if missing:
        raise UsageError(
            f"Family {name!r} is not whole: it has no {' and no '.join(missing)}.",
            hint=f"add {'it' if len(missing) == 1 else 'them'} to {found.__name__}; {SEE}",
        )
    if not is_adapter:
        return OpenedModel.of(found)
    for member in ("pipelines", "lora_targets"):
        value = getattr(found, member)
        if not (isinstance(value, tuple) and all(isinstance(one, str) for one in value)):
            raise UsageError(
                f"Family {name!r} has {member} = {value!r}, which is not a tuple of names.",
                hint=f'write it as {member} = ("name",)',
            )
    adapter: Family = found
    return adapter


def opens_itself(family: Family | None) -> bool:
    """Return whether a family opens its own models, which need not be pipelines of diffusers."""
    return family is not None and hasattr(family, "open")


def open_own(family: Any, path: object, *, dtype: torch.dtype) -> DiffusersModel:  # noqa: ANN401
    """Have a family open a model.

    Raises:
        WeightsError: the family can't open it.
        UsageError: the opened object is no model.
    """
    hint = f"see what {family.__name__}.open({str(path)!r}, dtype=torch.float32) says"
    with building(f"{path} can't be opened", hint=hint), torch.random.fork_rng(devices=[]):
        model: DiffusersModel = family.open(str(path), dtype=dtype)
    return model


def files_of_own(family: Family, path: object) -> BaseFiles:
    """Describe the files of a model that its family opens: nothing is known of them."""
    return BaseFiles(str(path), family.__name__)


def check_pipeline(family: Family, class_name: str, path: object) -> None:
    """Refuse a pipeline that an adapter is not for.

    Raises:
        UsageError: its class is none of the adapter's.
    """
    if class_name not in family.pipelines:
        raise UsageError(
            f"{path} holds a {class_name}, and {family.__name__} is for "
            f"{' or '.join(family.pipelines) or 'none'}.",
            hint=f'if it fits, add "{class_name}" to {family.__name__}.pipelines; if not, set '
            "model.path or model.family otherwise",
        )
