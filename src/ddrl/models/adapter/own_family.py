"""A model family of the user's own, named ``package.module:Class`` in a recipe."""

from __future__ import annotations

import difflib
import inspect
from types import ModuleType
from typing import Any

import torch

from ddrl.errors import DDRLError, UsageError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.adapter.opened import METHODS, OpenedModel
from ddrl.models.files.base_files import BaseFiles
from ddrl.models.files.configs import building
from ddrl.named_code import import_named

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
    place, _, attribute = name.partition(":")
    if not (place and attribute):
        raise UsageError(f"Family {name!r} names no class.", hint="give it as package.module:Class")
    found: Any = getattr(_module(name, place), attribute, None)
    if found is None:
        raise _no_class(name, place, attribute)
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
            hint=f"add {'it' if len(missing) == 1 else 'them'} to {attribute}; {SEE}",
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


def _module(name: str, place: str) -> ModuleType:
    """The module, loaded.

    Raises:
        UsageError: there is none, or its code raises something.
    """
    try:
        return import_named(place)
    except DDRLError as error:
        raise UsageError(
            f"Family {name!r} can't be loaded. {error.message}", hint=error.hint
        ) from error
    except ModuleNotFoundError as error:
        missing = error.name or place
        if place == missing or place.startswith(f"{missing}."):
            raise UsageError(
                f"Family {name!r} can't be loaded: there is no module {missing!r}.",
                hint="install its package into this environment, or run the command in the folder "
                "that it lies in",
            ) from error
        raise UsageError(
            f"Family {name!r} can't be loaded: it needs {missing!r}, which is not installed.",
            hint=f"pip install the package that {missing} is of",
        ) from error
    except Exception as error:  # importing a module runs somebody's code
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"Family {name!r} can't be loaded: {type(error).__name__}: {reason}.",
            hint=f"see what `python -c 'import {place}'` says",
        ) from error


def _no_class(name: str, place: str, attribute: str) -> UsageError:
    module = import_named(place)  # loaded by now
    mine = [n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == place]
    near = difflib.get_close_matches(attribute, mine, 1)
    hint = f"did you mean {place}:{near[0]}?" if near else f"it has {', '.join(mine) or 'none'}"
    return UsageError(f"Family {name!r} can't be loaded: {place} has no {attribute}.", hint=hint)
