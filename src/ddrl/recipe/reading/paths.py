"""The paths in a recipe: expanded as a shell does, and made whole so that they hold elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from ddrl.errors import RecipeError

if TYPE_CHECKING:
    from ddrl.recipe.recipe import Recipe
    from ddrl.recipe.sections.base import Options

Model = TypeVar("Model", bound=BaseModel)

PATHS = (
    *("model.path", "model.start", "model.lora.start", "data.path", "evaluation.encoder"),
    *("run.folder", "run.cache"),
)
"""Keys that hold a path; those of model, data and encoder may hold an id of the hub instead."""

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_PATH_OPTION = re.compile(r"~\w*/|\$(\w+|\{\w+\})/")  # other options may be text with a dollar


def expand_paths(recipe: Recipe) -> Recipe:
    """Return the recipe with ``~`` and environment variables of its paths written out.

    A path that is there as it stands is left alone.

    Raises:
        RecipeError: there is no such user, or no such variable.
    """

    def expand(key: str, value: str) -> str:
        if not value or _exists(value) or (key not in PATHS and not _PATH_OPTION.match(value)):
            return value
        text = os.path.expanduser(value)
        if text.startswith("~"):
            raise RecipeError(
                f'{key} is "{value}", but there is no user of that name.',
                hint=f"write the path itself, such as {key}=./{value}"
                if "/" not in value
                else "write the path itself",
            )

        def filled(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            if name not in os.environ:
                raise RecipeError(
                    f'{key} is "{value}", but the environment has no variable {name}.',
                    hint=f"export {name}, or write the path itself",
                )
            return os.environ[name]

        return _VARIABLE.sub(filled, text)

    return _changed(recipe, expand)


def resolve_paths(recipe: Recipe) -> Recipe:
    """Return the recipe with absolute paths, so that it means the same in any working folder.

    Relative paths start at the working folder. What may be an id of the hub is one where there is
    no such file.
    """

    def resolve(key: str, value: str) -> str:
        may_be_other = key not in PATHS or key in {"model.path", "evaluation.encoder"}
        of_data = recipe.data.source == "hub" or bool(recipe.data.own_task)
        may_be_other |= key == "data.path" and of_data
        if not value or (key == "evaluation.encoder" and value == "auto"):
            return value
        if key not in PATHS and "/" not in value:
            return value
        return value if may_be_other and not _exists(value) else str(Path(value).absolute())

    return _changed(recipe, resolve)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long, or no path at all
        return False


def _changed(recipe: Recipe, change: Callable[[str, str], str]) -> Recipe:
    """Return the recipe after ``change(key, value)`` of its paths and its rewards' options."""
    values: dict[str, object] = {}
    for key in PATHS:
        *sections, name = key.split(".")
        values[key] = change(key, getattr(reduce(getattr, sections, recipe), name))

    def options_of(key: str, options: Options) -> Options:
        return {
            name: change(f"{key}.options.{name}", value) if isinstance(value, str) else value
            for name, value in options.items()
        }

    heldout = tuple(
        one.model_copy(update={"options": options_of(f"evaluation.reward.{place}", one.options)})
        for place, one in enumerate(recipe.evaluation.reward)
    )
    rewards = tuple(
        one.model_copy(update={"options": options_of(f"reward.{place}", one.options)})
        for place, one in enumerate(recipe.reward)
    )
    return _updated(recipe, {**values, "evaluation.reward": heldout, "reward": rewards})


def _updated(section: Model, values: Mapping[str, object]) -> Model:
    """Return a section, or a recipe, with other values of some dotted keys."""
    inner: dict[str, dict[str, object]] = {}
    update: dict[str, object] = {}
    for key, value in values.items():
        name, _, rest = key.partition(".")
        if rest:
            inner.setdefault(name, {})[rest] = value
        else:
            update[name] = value
    for name, found in inner.items():
        update[name] = _updated(getattr(section, name), found)
    return section.model_copy(update=update)
