"""A TOML file of a user's: its tables, where each key stands in it, and its first fault."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ddrl.disk import read_document
from ddrl.errors import RecipeError
from ddrl.recipe.reading.problems import Problem, explain
from ddrl.recipe.reading.shipped import near_names, shipped
from ddrl.recipe.reading.toml import KeyPath, line_numbers, parse_toml

Model = TypeVar("Model", bound=BaseModel)

_NUM_SUGGESTIONS = 6


@dataclass(frozen=True)
class Document:
    """The text of a recipe, a comparison or a service.

    Attributes:
        origin: what error messages call it; a file name.
        tables: its content, with the overrides in it.
        lines: the line of each key.
        overrides: the override that set a key.
    """

    origin: str
    tables: dict[str, Any]
    lines: Mapping[KeyPath, int]
    overrides: Mapping[KeyPath, str]

    def check(self, model: type[Model]) -> Model:
        """Return what the document says, as a model.

        Raises:
            RecipeError: it has a fault. The first in reading order is named, and what is missing
                comes last, since another fault may explain it: a misspelt key leaves the right one
                missing, and a faulty section leaves its list too short.
        """
        try:
            return model.model_validate(self.tables)
        except ValidationError as error:
            rank = {"missing": 1, "too_short": 2}
            found = [
                (rank.get(one["type"], 0), explain(one, self.tables, model))
                for one in error.errors()
            ]
            _, problem = min(found, key=lambda item: (item[0], self._line(item[1])))
            raise self.error(problem) from None

    def error(self, problem: Problem) -> RecipeError:
        """Return the error for a problem, which names the override, or the file and line."""
        return RecipeError(f"{self._place(problem)}: {problem.message}", hint=problem.hint)

    def _line(self, problem: Problem) -> int:
        """Return the line to sort a problem by; overrides come after the file."""
        written = [self.lines[path] for path in problem.paths if path in self.lines]
        if written and self._override(problem) is None:
            return written[0]
        return max(self.lines.values(), default=0) + 1

    def _override(self, problem: Problem) -> str | None:
        """Return the override that set a key of the problem, or the table or list that it is in."""
        return next(
            (self.overrides[one] for one in _within(problem) if one in self.overrides), None
        )

    def _place(self, problem: Problem) -> str:
        """``Override "..."``, ``file:line``, or the file alone for keys that nobody wrote."""
        if (override := self._override(problem)) is not None:
            return f'Override "{override}"'
        # A key that is missing belongs to its section.
        places = (*problem.paths, *_within(problem))
        line = next((self.lines[one] for one in places if one in self.lines), None)
        return self.origin if line is None else f"{self.origin}:{line}"


def _within(problem: Problem) -> Iterable[KeyPath]:
    """Return the paths of a problem, each followed by the tables and lists that it is in."""
    return (path[:end] for path in problem.paths for end in range(len(path), 0, -1))


def read_text(path: Path) -> str:
    """Return the text of a recipe, a comparison or a service's file.

    Raises:
        RecipeError: it can't be read.
    """
    try:
        return read_document(path)
    except FileNotFoundError:
        raise RecipeError(f"There is no recipe {path}.", hint=_nearby(path)) from None
    except IsADirectoryError:
        raise RecipeError(f"{path} is a folder, not a recipe.", hint=_nearby(path)) from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path} is not UTF-8 text (byte {error.start}).", hint="a recipe is a TOML file"
        ) from None
    except OSError as error:
        raise RecipeError(
            f"{path} can't be read: {error.strerror or error}.", hint="name a TOML file"
        ) from error


def parse_document(text: str, *, origin: str) -> Document:
    """Return the document of a TOML text.

    Raises:
        RecipeError: it is not valid TOML; the message says where.
    """
    try:
        return Document(origin, parse_toml(text), line_numbers(text), {})
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(text, origin, str(error)) from None


def _syntax_error(text: str, origin: str, message: str) -> RecipeError:
    # Python's parser gives the place in words only.
    match = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    at_end = "(at end of document)" in message
    line = int(match[1]) if match else text.count("\n") + (not text.endswith("\n"))
    where = f"{origin}:{line}" if match or at_end else origin
    reason = re.sub(r" \(at [^()]*\)$", "", message)
    column = f" at column {match[2]}" if match else " at the end of the file" if at_end else ""
    return RecipeError(
        f"{where}: Not valid TOML{column}: {reason[:1].lower()}{reason[1:]}.",
        hint='text goes in "quotes", lists in [brackets]; true and false are lower case; '
        "a section and a key can be given once",
    )


def _nearby(path: Path) -> str:
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
