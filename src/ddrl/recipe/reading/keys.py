"""Every key of a recipe, or another file, as data: what it takes, in words."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ddrl.recipe.reading.toml import format_value
from ddrl.recipe.recipe import Recipe
from ddrl.recipe.sections.base import Section

Kind = Literal["int", "float", "str", "bool", "choice", "steps", "list", "options"]


@dataclass(frozen=True)
class KeySpec:
    """One key of a file.

    Attributes:
        key: dotted, without list positions: ``reward.weight``.
        kind: the sort of value.
        expected: what it takes, in words with an article: ``a whole number of at least 1``.
        choices: the allowed names of a choice.
        default: as TOML text, or ``required``.
        description: what it means.
    """

    key: str
    kind: Kind
    expected: str
    choices: tuple[str, ...]
    default: str
    description: str


@cache
def key_specs(model: type[BaseModel] = Recipe) -> dict[str, KeySpec]:
    """Return every key of a model by its dotted name, in the order of the schema."""
    return {spec.key: spec for spec in _walk(model, "")}


@cache
def section_names(model: type[BaseModel] = Recipe) -> tuple[str, ...]:
    """Return every section, nested ones included: ``model``, ``model.pretrain``, ``data``, ..."""
    return tuple(dict.fromkeys(key.rpartition(".")[0] for key in key_specs(model) if "." in key))


@cache
def list_names(model: type[BaseModel] = Recipe) -> tuple[str, ...]:
    """Return the sections that are lists, by their dotted names; a recipe's are all of rewards."""
    return tuple(
        name for name in section_names(model) if get_origin(_field(model, name).annotation) is tuple
    )


def _field(model: type[BaseModel], key: str) -> FieldInfo:
    name, _, rest = key.partition(".")
    info = model.model_fields[name]
    inner = _inner_section(info.annotation)
    return _field(inner, rest) if rest and inner is not None else info


def nearest(name: str, candidates: Sequence[str]) -> str | None:
    """Return the candidate that looks most like ``name``, or None when none does."""
    matches = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return matches[0] if matches else None


def key_hint(section: str, name: str, model: type[BaseModel] = Recipe) -> str:
    """Say what was probably meant by an unknown key.

    Args:
        section: the dotted section it stands in; empty at the top of the file.
        name: the unknown key.
        model: of the file.
    """
    keys, sections = key_specs(model), section_names(model)
    here = [one for one in (*keys, *sections) if one.rpartition(".")[0] == section]
    names_here = [one.rpartition(".")[2] for one in here]
    elsewhere = [s for s in sections if f"{s}.{name}" in keys]
    if elsewhere:
        return f"{name} is a key of {', '.join(section_header(s, model) for s in elsewhere)}"
    close = nearest(name, names_here)
    if close is not None:
        meant = f"{section}.{close}" if section else close
        return f"did you mean {section_header(meant, model) if meant in sections else meant}?"
    anywhere = nearest(name, [key.rpartition(".")[2] for key in keys])
    if anywhere is not None:
        found = [key for key in keys if key.rpartition(".")[2] == anywhere]
        return f"did you mean {' or '.join(found)}?"
    top = "the keys are" if set(here) & keys.keys() else "the sections are"
    where = f"{section_header(section, model)} takes" if section else top
    return f"{where} {', '.join(names_here)}"


def section_header(section: str, model: type[BaseModel] = Recipe) -> str:
    """Return the line that opens a section: ``[rollout]``, ``[[reward]]``."""
    return f"[[{section}]]" if section in list_names(model) else f"[{section}]"


def _walk(section: type[BaseModel], prefix: str) -> Iterator[KeySpec]:
    nested: list[tuple[type[BaseModel], str]] = []
    for name, info in section.model_fields.items():
        inner = _inner_section(info.annotation)
        if inner is None:
            yield _spec(f"{prefix}{name}", info)
        else:
            nested.append((inner, f"{prefix}{name}."))
    for inner, inner_prefix in nested:
        yield from _walk(inner, inner_prefix)


def _inner_section(annotation: object) -> type[BaseModel] | None:
    """Return the section behind a field that is one, or a list of them."""
    arguments = get_args(annotation)
    target = arguments[0] if get_origin(annotation) is tuple else annotation
    return target if isinstance(target, type) and issubclass(target, Section) else None


def _spec(key: str, info: FieldInfo) -> KeySpec:
    kind, choices = _kind(info.annotation)
    if info.is_required():
        default = "required"
    else:
        default = format_value(info.get_default(call_default_factory=True, validated_data={}))
    description = info.description or ""
    return KeySpec(key, kind, _expected(kind, choices, info), choices, default, description)


def _kind(annotation: object) -> tuple[Kind, tuple[str, ...]]:
    origin = get_origin(annotation)
    if origin is Literal:
        return "choice", tuple(str(choice) for choice in get_args(annotation))
    if origin in (Union, types.UnionType):
        names, *others = get_args(annotation)
        is_open = any(get_origin(other) is Annotated for other in others)
        return ("choice", _kind(names)[1]) if is_open else ("steps", ("all",))
    if origin is tuple:
        return "list", ()
    if origin is dict:
        return "options", ()
    simple: dict[object, Kind] = {int: "int", float: "float", str: "str", bool: "bool"}
    return simple[annotation], ()


def _expected(kind: Kind, choices: tuple[str, ...], info: FieldInfo) -> str:
    if kind == "choice":
        more = "" if get_origin(info.annotation) is Literal else ", or package.module:Class"
        return f"one of {', '.join(format_value(choice) for choice in choices)}{more}"
    if kind == "str":
        return "text" if not _bound(info, "min_length") else "text that is not empty"
    if kind == "list":
        names = {int: "whole numbers", float: "numbers", str: "texts"}
        of = info.examples[0] if info.examples else names[get_args(info.annotation)[0]]
        return f"a list of {of}{' that is not empty' if _bound(info, 'min_length') else ''}"
    words: dict[Kind, str] = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "steps": '"all" or a list of step numbers',
        "options": "a table of text, numbers, true and false, or lists and tables of these",
    }
    bounds = [
        f"{word} {bound:g}"
        for name, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
        if (bound := _bound(info, name)) is not None
    ]
    of = " of" if bounds and bounds[0].startswith("at") else ""
    return words[kind] + (f"{of} {' and '.join(bounds)}" if bounds else "")


def _bound(info: FieldInfo, name: str) -> float | None:
    """Return a limit out of the field's metadata, such as ``ge``; None when there is none."""
    limits = annotated_types.Ge, annotated_types.Gt, annotated_types.Le, annotated_types.Lt
    for item in info.metadata:
        if isinstance(item, (*limits, annotated_types.MinLen)):
            value: object = getattr(item, name, None)
            if isinstance(value, int | float):
                return value
    return None
