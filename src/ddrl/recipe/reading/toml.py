"""A recipe as TOML text, and where each key of a TOML text stands."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from ddrl.recipe.recipe import Recipe

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of a recipe: ``("reward", 0, "weight")``."""

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text of which nothing is known.

    Raises:
        tomllib.TOMLDecodeError: it is no TOML, nested deeper than Python can follow, or holds a
            number of too many digits.
    """
    try:
        found = tomllib.loads(text)
        copy.deepcopy(found)  # what reads it goes as deep
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise tomllib.TOMLDecodeError("it is nested too deeply") from None
    except ValueError as error:  # Python's limit of digits
        raise tomllib.TOMLDecodeError(str(error).partition(";")[0]) from None
    return found


def dump_toml(recipe: Recipe) -> str:
    """Return the canonical TOML text of a recipe, every key written out.

    Reading it back gives an equal recipe, so that a run's folder says all that the run was.
    """
    return "\n\n".join(_blocks("", recipe.model_dump())) + "\n"


def _blocks(path: str, table: Mapping[str, object], header: str = "") -> list[str]:
    """Return a table's own keys, then its tables, because TOML wants them in this order."""
    lines, tables = [header] if header else [], []
    for name, value in table.items():
        inner = f"{path}.{format_key(name)}".lstrip(".")
        if isinstance(value, tuple) and value and isinstance(value[0], dict):
            for item in value:
                tables += _blocks(inner, item, f"[[{inner}]]")
        elif isinstance(value, dict) and not path.endswith("options"):
            # An empty table of options says nothing.
            tables += _blocks(inner, value, f"[{inner}]") if value else []
        elif inner != "evaluation.reward":  # an empty list of sections says nothing
            lines.append(f"{format_key(name)} = {format_value(value)}")
    return ["\n".join(lines), *tables] if lines else tables


def format_key(key: str) -> str:
    """Return a key as TOML: bare when it can be, otherwise quoted."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else format_value(key)


def format_value(value: object) -> str:
    """Return a value as TOML: ``true``, ``1e-08``, ``"text"``, ``[0, 2]``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return '"' + "".join(_escape(character) for character in value) + '"'
    if isinstance(value, Mapping):
        inner = ", ".join(f"{format_key(key)} = {format_value(v)}" for key, v in value.items())
        return f"{{{inner}}}"
    assert isinstance(value, Sequence)
    return f"[{', '.join(format_value(item) for item in value)}]"


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    # TOML forbids control characters in text, DEL among them.
    is_control = ord(character) < 0x20 or ord(character) == 0x7F
    return f"\\u{ord(character):04X}" if is_control else character


def line_numbers(text: str) -> dict[KeyPath, int]:
    """Return the line, counted from 1, of every table and key of a valid TOML text.

    Keys of an inline table stand on the line of the key that holds it.
    """
    # Not splitlines, which also breaks at characters that are ordinary text to TOML.
    lines = text.replace("\r\n", "\n").split("\n")
    found: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    section: KeyPath = ()
    position = 0
    while position < len(lines):
        line = lines[position].lstrip()
        table, end = _statement(lines, position)
        if line.startswith("["):
            section = _header_path(table, counts, is_array=line.startswith("[["))
            for length in range(1, len(section) + 1):
                found.setdefault(section[:length], position + 1)
        else:
            for path in _paths(table):
                found.setdefault(section + path, position + 1)
        position = end
    return found


def _statement(lines: Sequence[str], start: int) -> tuple[Mapping[str, object], int]:
    """Parse the shortest run of lines from ``start`` that is TOML by itself; also where it ends.

    A value may go on over several lines; the parser knows best when it is complete.
    """
    for end in range(start + 1, len(lines) + 1):
        try:
            return tomllib.loads("\n".join(lines[start:end])), end
        except tomllib.TOMLDecodeError:
            continue
    raise AssertionError("every statement of a valid TOML text is valid by itself")


def _header_path(
    table: Mapping[str, object], counts: dict[KeyPath, int], *, is_array: bool
) -> KeyPath:
    """Return the path of a header such as ``[reward.options]``, with the last reward's position."""
    path: KeyPath = ()
    value: object = table
    while isinstance(value, Mapping) and value:
        key, value = next(iter(value.items()))
        path += (key,)
        if is_array and isinstance(value, list):
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path += (counts[path] - 1,)
    return path


def _paths(table: Mapping[str, object]) -> list[KeyPath]:
    paths: list[KeyPath] = []
    for key, value in table.items():
        paths.append((key,))
        if isinstance(value, Mapping):
            paths += [(key, *inner) for inner in _paths(value)]
    return paths
