"""From a TOML file and overrides to a Recipe; every fault names its file, line and key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ddrl.disk import read_document
from ddrl.errors import RecipeError
from ddrl.recipe.reading.overrides import apply_override
from ddrl.recipe.reading.paths import expand_paths
from ddrl.recipe.reading.problems import Problem, explain
from ddrl.recipe.reading.shipped import find_recipe, near_names, shipped
from ddrl.recipe.reading.toml import KeyPath, line_numbers, parse_toml
from ddrl.recipe.recipe import Recipe

_NUM_SUGGESTIONS = 6


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; ``~`` and variables in its paths are expanded as in a shell.

    Args:
        path: a TOML file, or the name of a recipe that comes with ddrl.
        overrides: ``section.key=value``, the later one wins.

    Raises:
        RecipeError: the file can't be read, is not a recipe that can be run, or has a path with a
            user or a variable that does not exist.
    """
    path = find_recipe(Path(path))
    return expand_paths(parse_recipe(read_text(path), origin=str(path), overrides=overrides))


def read_text(path: Path) -> str:
    """The text of a recipe, a comparison or a service's file.

    Raises:
        RecipeError: it can't be read.
    """
    try:
        return read_document(path)
    except FileNotFoundError:
        raise RecipeError(f"there is no recipe {path}", hint=_nearby_recipes(path)) from None
    except IsADirectoryError:
        raise RecipeError(f"{path} is a folder, not a recipe", hint=_nearby_recipes(path)) from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path} is not UTF-8 text (byte {error.start})", hint="a recipe is a TOML file"
        ) from None
    except OSError as error:
        raise RecipeError(
            f"{path} can't be read: {error.strerror or error}", hint="name a TOML file"
        ) from error


def parse_tables(text: str, *, origin: str) -> dict[str, Any]:
    """The tables of such a text.

    Raises:
        RecipeError: it is not valid TOML; the message says where.
    """
    try:
        return parse_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(text, origin, str(error)) from None


def parse_recipe(text: str, *, origin: str = "recipe", overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from TOML text, such as the one that a run keeps beside its checkpoints.

    Args:
        text: TOML.
        origin: what error messages call it; a file name.
        overrides: as for ``load_recipe``.

    Raises:
        RecipeError: it is not a recipe that can be run.
    """
    data = parse_tables(text, origin=origin)
    if "variant" in data:
        raise RecipeError(
            f"{origin} is a comparison, not one recipe", hint=f"run it with `ddrl compare {origin}`"
        )
    lines = line_numbers(text)
    overridden = {apply_override(data, override): override for override in overrides}
    places = _Places(origin, lines, overridden)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise _first_error(error, data, places) from None


@dataclass(frozen=True)
class _Places:
    """Where each key was written.

    Attributes:
        origin: the file.
        lines: the line of each key in it.
        overrides: the override that set a key.
    """

    origin: str
    lines: Mapping[KeyPath, int]
    overrides: Mapping[KeyPath, str]

    def line(self, problem: Problem) -> int:
        """The line to sort a problem by; overrides come after the file."""
        written = [self.lines[path] for path in problem.paths if path in self.lines]
        if written and self._override(problem) is None:
            return written[0]
        return max(self.lines.values(), default=0) + 1

    def _override(self, problem: Problem) -> str | None:
        """The override that set a key of the problem, or the table or list that it is in."""
        parts = [path[:end] for path in problem.paths for end in range(len(path), 0, -1)]
        return next((self.overrides[part] for part in parts if part in self.overrides), None)

    def describe(self, problem: Problem) -> str:
        """``override "..."``, ``file:line``, or the file alone for keys that nobody wrote."""
        if (override := self._override(problem)) is not None:
            return f'override "{override}"'
        for path in problem.paths:
            if path in self.lines:
                return f"{self.origin}:{self.lines[path]}"
        # A key that is missing belongs to its section.
        parents = [path[:end] for path in problem.paths for end in range(len(path) - 1, 0, -1)]
        line = next((self.lines[parent] for parent in parents if parent in self.lines), None)
        return self.origin if line is None else f"{self.origin}:{line}"


def _first_error(
    error: ValidationError, data: Mapping[str, object], places: _Places
) -> RecipeError:
    """The first fault in reading order; what is missing last, since another fault may explain it.

    A misspelt key leaves the right one missing, and a faulty reward leaves the list too short.
    """
    rank = {"missing": 1, "too_short": 2}
    found = [(rank.get(details["type"], 0), explain(details, data)) for details in error.errors()]
    _, problem = min(found, key=lambda item: (item[0], places.line(item[1])))
    return RecipeError(f"{places.describe(problem)}: {problem.message}", hint=problem.hint)


def _syntax_error(text: str, origin: str, message: str) -> RecipeError:
    # Python's parser gives the place in words only.
    match = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    at_end = "(at end of document)" in message
    line = int(match[1]) if match else text.count("\n") + (not text.endswith("\n"))
    where = f"{origin}:{line}" if match or at_end else origin
    reason = re.sub(r" \(at [^()]*\)$", "", message)
    column = f" at column {match[2]}" if match else " at the end of the file" if at_end else ""
    return RecipeError(
        f"{where}: not valid TOML{column}: {reason[:1].lower()}{reason[1:]}",
        hint='text goes in "quotes", lists in [brackets]; true and false are lower case; '
        "a section and a key can be given once",
    )


def _nearby_recipes(path: Path) -> str:
    """Name the TOML files around a path that is no recipe, the most similar first.

    What has a recipe's name, or could be one, may mean a recipe that comes with ddrl.
    """
    is_known = path.stem in {one.path.stem for one in shipped()}
    if is_known or (path.suffix != ".toml" and not path.is_dir()):
        return near_names(path.as_posix())
    folder = path if path.is_dir() else path.parent
    while not folder.is_dir():
        folder = folder.parent
    found = sorted(
        {*folder.glob("*.toml"), *folder.glob("*/*.toml")},
        key=lambda near: (-SequenceMatcher(None, near.stem, path.stem).ratio(), str(near)),
    )
    if not found:
        return f"there are no .toml files in {folder}"
    more = f", and {len(found) - _NUM_SUGGESTIONS} more" if len(found) > _NUM_SUGGESTIONS else ""
    return f"near it: {', '.join(map(str, found[:_NUM_SUGGESTIONS]))}{more}"
