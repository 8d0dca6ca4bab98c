"""Overrides: ``section.key=value`` from the command line, typed by the key they set."""

from __future__ import annotations

import tomllib

from ddrl.errors import RecipeError
from ddrl.recipe.reading.keys import (
    KeySpec,
    key_hint,
    key_specs,
    list_names,
    nearest,
    section_names,
)
from ddrl.recipe.reading.toml import KeyPath, parse_toml


def apply_override(data: dict[str, object], text: str) -> KeyPath:
    """Set one key of a parsed recipe in place.

    Args:
        data: the recipe as tables and lists.
        text: ``section.key=value``; text needs no quotes, ``reward.0.weight`` is the first
            reward's, and ``reward.0.options.NAME`` sets an option, or ``NAME.KEY`` of one that is a
            table.

    Returns:
        The path that was set.

    Raises:
        RecipeError: the text is no override, or names no key. A value of the wrong type is found
            when the recipe is validated.
    """
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of the command line that its encoding has no letters for
        raise RecipeError(
            f'Override "{text}" is not UTF-8 text.', hint="type it where the locale is UTF-8"
        ) from None
    key, separator, value = (part.strip() for part in text.partition("="))
    if not key or not separator:
        raise RecipeError(
            f'Override "{text}" is not of the form section.key=value.',
            hint="write it without spaces, such as objective.beta=0.5",
        )
    path, spec = _resolve(data, text, key)
    _assign(data, path, _parse(value, spec))
    return path


def _resolve(data: dict[str, object], text: str, key: str) -> tuple[KeyPath, KeySpec]:
    parts = key.split(".")
    prefix: KeyPath = (parts[0],)
    rest = parts[1:]
    named = parts[:1]
    for rewards in list_names():
        length = rewards.count(".") + 1
        if ".".join(parts[:length]) == rewards and parts[length:]:
            named, rest = parts[:length], parts[length + 1 :]
            prefix = (*named, _reward_position(data, text, parts, length))
    dotted = ".".join([*named, *rest])
    options = f"{'.'.join(named)}.options"
    if named[-1] == "reward" and dotted.startswith(f"{options}."):
        # An option may be a table, whose keys follow it.
        names = dotted.removeprefix(f"{options}.").split(".")
        return (*prefix, "options", *names), key_specs()[options]
    if dotted == options and options in key_specs():
        raise RecipeError(
            f'Override "{text}": {key} is a table.',
            hint=f"set one option at a time, such as {key}.NAME=value",
        )
    if dotted in section_names():
        first = next(k for k in key_specs() if k.startswith(f"{dotted}."))
        example = f"{key}.{first.removeprefix(f'{dotted}.')}"
        if key in list_names():
            example = {"reward": "reward.0.weight"}.get(key, f"{key}.0.name")
        raise RecipeError(
            f'Override "{text}": {key} is a section.', hint=f"set one key, such as {example}"
        )
    if dotted not in key_specs():
        raise RecipeError(
            f'Override "{text}": Unknown key {key}.', hint=_unknown_hint(dotted.split("."))
        )
    return (*prefix, *rest), key_specs()[dotted]


def _reward_position(data: dict[str, object], text: str, parts: list[str], length: int) -> int:
    """Return the number behind the first ``length`` parts, which name a list of rewards."""
    name = ".".join(parts[:length])
    rewards: object = data
    for part in parts[:length]:
        rewards = rewards.get(part) if isinstance(rewards, dict) else None
    count = len(rewards) if isinstance(rewards, list) else 0
    if not parts[length].isdecimal():
        raise RecipeError(
            f'Override "{text}": Rewards are a list, so a number has to follow "{name}".',
            hint=f"write {name}.0.{'.'.join(parts[length:])} for the first one",
        )
    position = int(parts[length])
    if rewards is None or (isinstance(rewards, list) and position >= count):
        raise RecipeError(
            f'Override "{text}": There is no reward {position}; the recipe has {count}.',
            hint=f"they are counted from 0, so the last one is {name}.{count - 1}"
            if count
            else f"add a [[{name}]] section to the recipe",
        )
    return position


def _unknown_hint(parts: list[str]) -> str:
    section = ".".join(parts[:-1])
    if section and section not in section_names():
        # The section is misspelt too, or alone: compare whole keys.
        close = nearest(".".join(parts), list(key_specs()))
        return f"did you mean {close}?" if close else key_hint("", parts[0])
    return key_hint(section, parts[-1])


def _parse(value: str, spec: KeySpec) -> object:
    """Read a value as its key's type; what can't be read stays text, for the validation to name."""
    if spec.kind in {"str", "choice"} and not value.startswith(('"', "'")):
        return value
    if spec.kind in {"int", "float"}:
        for number in (int, float):
            try:
                return number(value)
            except ValueError:
                continue
    try:
        parsed: object = parse_toml(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value
    return parsed


def _assign(data: dict[str, object], path: KeyPath, value: object) -> None:
    """Set ``path``, making tables on the way; a file of another shape is left to the validation."""
    table: object = data
    for part in path[:-1]:
        if isinstance(table, dict):
            table = table.setdefault(part, {})
        elif isinstance(table, list) and isinstance(part, int):
            table = table[part]
    if isinstance(table, dict):
        table[path[-1]] = value
