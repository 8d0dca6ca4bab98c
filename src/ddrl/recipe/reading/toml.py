"""A recipe as TOML text, where each key of a TOML text stands, and how two recipes differ."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeGuard

from pydantic import BaseModel

from ddrl.recipe.recipe import Recipe
from ddrl.recipe.rules.anchors import needs_synthetic

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of a recipe: ``("reward", 0, "weight")``."""

LAST_BITS: tuple[str, ...] = (
    "model.gradient_checkpointing",
    "model.offload",
    "model.compile",
    "reward.samples_per_call",
    "run.device",
    "run.micro_batch",
    "run.steps_per_pass",
    "run.threads",
)
"""Keys that change memory, time and place, and of the result no more than its last bits: where sums
are taken in another order."""

CHANGEABLE_ON_RESUME: tuple[str, ...] = (
    *LAST_BITS,
    "model.distilled",
    "run.steps",
    "run.folder",
    "run.cache",
    "run.checkpoint_every",
    "run.keep_checkpoints",
    "run.tensorboard",
    "run.wandb_project",
    "reward.timeout",
    "reward.retries",
    "reward.cache",
    "scoring.overlap",
    "evaluation.*",
    "guard.*",
)
"""Patterns of the keys that a resumed run may change: what is kept, watched and waited for, and
how it is computed, not what. Keys of a reward stand without its position."""

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text of which nothing is known.

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
    blocks: list[str] = []
    for name in Recipe.model_fields:
        value: object = getattr(recipe, name)
        if isinstance(value, tuple):
            for item in value:
                blocks += _blocks(f"[[{name}]]", name, item)
        else:
            blocks += _blocks(f"[{name}]", name, value)
    return "\n\n".join(blocks) + "\n"


def _blocks(header: str, path: str, section: object) -> list[str]:
    """A section's own keys, then its tables, because TOML wants them in this order."""
    lines, tables = [header], []
    for name, value in _items(section):
        inner = f"{path}.{format_key(name)}"
        if _is_list_of_sections(value):
            for item in value:
                tables += _blocks(f"[[{inner}]]", inner, item)
        elif isinstance(section, BaseModel) and isinstance(value, BaseModel | Mapping):
            # An empty table of options says nothing.
            if _items(value):
                tables += _blocks(f"[{inner}]", inner, value)
        elif (path, name) != ("evaluation", "reward"):  # an empty list of sections says nothing
            lines.append(f"{format_key(name)} = {format_value(value)}")
    return ["\n".join(lines), *tables]


def _is_list_of_sections(value: object) -> TypeGuard[tuple[BaseModel, ...]]:
    return isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value)


def _items(section: object) -> list[tuple[str, object]]:
    if isinstance(section, BaseModel):
        return [(name, getattr(section, name)) for name in type(section).model_fields]
    assert isinstance(section, Mapping)
    return list(section.items())


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


def difference(a: Recipe, b: Recipe, *, ignore: Sequence[str] = ()) -> list[str]:
    """Return one line per key in which two recipes differ: ``objective.beta: 1.0 -> 0.5``.

    Args:
        a: the recipe on the left of the arrow.
        b: the recipe on its right.
        ignore: patterns of keys to leave out, with or without positions in lists, such as
            ``CHANGEABLE_ON_RESUME``.
    """
    left, right = _flatten(a), _flatten(b)
    keys = dict.fromkeys([*left, *right])
    return [
        f"{key}: {left.get(key, '(absent)')} -> {right.get(key, '(absent)')}"
        for key in keys
        if left.get(key) != right.get(key) and not _is_of(key, ignore)
    ]


def resume_conflicts(saved: Recipe, current: Recipe) -> list[str]:
    """Return the differences that forbid ``current`` to continue a run of ``saved``.

    ``run.steps`` may change, except with a cosine schedule, whose every step depends on it, and
    where the number of synthetic anchors follows it; and ``evaluation``, except for the solver
    where the anchors are its samples.
    """
    is_cosine = "cosine" in (saved.optimizer.schedule, current.optimizer.schedule)
    ignore = [key for key in CHANGEABLE_ON_RESUME if not (is_cosine and key == "run.steps")]
    found = difference(saved, current, ignore=ignore)
    synthetic = current.data.synthetic
    if needs_synthetic(current) and not synthetic.per_prompt and not is_cosine:
        found += [
            f"{line}, with data.synthetic.per_prompt = 0: run.steps sets the number of samples"
            for line in difference(saved, current)
            if line.startswith("run.steps:")
        ]
    if needs_synthetic(current) and synthetic.sampler == "ode":
        solver = ("evaluation.solver:", *(() if synthetic.steps else ("evaluation.steps:",)))
        found += [line for line in difference(saved, current) if line.startswith(solver)]
    return found


def bit_changes(saved: Recipe, current: Recipe) -> list[str]:
    """Return the differences after which a resumed run may differ in its last bits."""
    others = [key for key in _flatten(saved) | _flatten(current) if not _is_of(key, LAST_BITS)]
    return difference(saved, current, ignore=others)


def resume_rule(key: str) -> str:
    """Say whether a resumed run may change a key, given without positions in lists."""
    if key == "run.steps":
        return "may change, unless the learning rate or the synthetic data follow it"
    if _is_of(key, LAST_BITS):
        return "may change; the last bits of the result may differ"
    return "may change" if _is_of(key, CHANGEABLE_ON_RESUME) else "can't change: it is another run"


def _is_of(key: str, patterns: Sequence[str]) -> bool:
    """Whether a key, with or without its positions in lists, fits one of the patterns."""
    names = (key, re.sub(r"\.\d+\.", ".", key))
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _flatten(value: object, prefix: str = "") -> dict[str, str]:
    """Every leaf of a recipe by its dotted key, as TOML text."""
    if isinstance(value, BaseModel | Mapping):
        items = [(format_key(name), item) for name, item in _items(value)]
    elif _is_list_of_sections(value):
        items = [(str(position), item) for position, item in enumerate(value)]
    else:
        return {prefix: format_value(value)}
    return {
        key: text
        for name, item in items
        for key, text in _flatten(item, f"{prefix}.{name}" if prefix else name).items()
    }


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
    """The path of a header such as ``[reward.options]``, with the position of the last reward."""
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
