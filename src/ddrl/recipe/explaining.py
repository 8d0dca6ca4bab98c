"""What a key of a recipe is, for one who asks: its meaning, its rules and who sets it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ddrl.disk import read_document
from ddrl.errors import UsageError
from ddrl.recipe.reading.keys import KeySpec, key_specs, nearest, section_names
from ddrl.recipe.reading.resume import resume_rule
from ddrl.recipe.reading.shipped import COMPARISONS, shipped
from ddrl.recipe.reading.toml import format_value, parse_toml

_POSITION = re.compile(r"\.\d+(?=\.|$)")


@dataclass(frozen=True)
class Explanation:
    """One key of a recipe, and what ddrl knows of it.

    Attributes:
        spec: what it takes, its default and its meaning.
        on_resume: what becomes of a run that goes on with another value.
        set_by: recipes that come with ddrl and set it, with the value as TOML text.
    """

    spec: KeySpec
    on_resume: str
    set_by: tuple[tuple[str, str], ...]


def find_keys(name: str) -> tuple[KeySpec, ...]:
    """Return the keys that a name means: one, all of a section, or all whose last part it is.

    Args:
        name: ``objective.beta``, ``objective``, ``[objective]``, ``beta`` or ``reward.0.weight``.

    Raises:
        UsageError: it means none; the hint names a near one.
    """
    wanted = _POSITION.sub("", name.strip().strip("[]").partition("=")[0].strip())
    specs = key_specs()
    if wanted in specs:
        return (specs[wanted],)
    if wanted in _sections():
        return tuple(spec for key, spec in specs.items() if key.startswith(f"{wanted}."))
    found = tuple(spec for key, spec in specs.items() if key.rpartition(".")[2] == wanted)
    if found:
        return found
    raise UsageError(f"No recipe has a key {name!r}.", hint=_near(wanted))


def _sections() -> set[str]:
    """Return every section, also those that hold sections only."""
    return {
        ".".join(parts[: count + 1])
        for parts in (section.split(".") for section in section_names() if section)
        for count in range(len(parts))
    }


def _near(wanted: str) -> str:
    last = [key.rpartition(".")[2] for key in key_specs()]
    whole = [*key_specs(), *sorted(_sections())]
    # A name without a dot is a section or the last part of a key, not half of a long one.
    close = nearest(wanted, whole if "." in wanted else [*last, *sorted(_sections())])
    close = close or nearest(wanted.rpartition(".")[2], last)
    every = f"sections are {', '.join(section for section in section_names() if section)}"
    return f"did you mean {close}?" if close else every


def explain(spec: KeySpec) -> Explanation:
    """Return all that ddrl knows of a key."""
    return Explanation(spec, resume_rule(spec.key), tuple(_set_by(spec.key)))


def _set_by(key: str) -> list[tuple[str, str]]:
    found = []
    for one in shipped():
        if one.name.startswith(COMPARISONS):
            continue
        values = _values(parse_toml(read_document(one.path)), key.split("."))
        found += [(one.name, format_value(value)) for value in values]
    return found


def _values(table: object, parts: list[str]) -> list[object]:
    """Return what stands at a dotted key, once for each table of a list of tables."""
    if not parts:
        return [table]
    if isinstance(table, list):
        return [value for one in table for value in _values(one, parts)]
    if isinstance(table, dict) and parts[0] in table:
        return _values(table[parts[0]], parts[1:])
    return []
