"""What the validation found, said in the words of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ddrl.recipe.reading.keys import (
    KeySpec,
    key_hint,
    key_specs,
    list_names,
    nearest,
    section_header,
    section_names,
)
from ddrl.recipe.reading.toml import KeyPath, format_key, format_value
from ddrl.recipe.recipe import CONFLICT


@dataclass(frozen=True)
class Problem:
    """One fault of a file.

    Attributes:
        paths: where it is; the first path that somebody wrote is the one to point at.
        message: one sentence.
        hint: what to do about it, or empty.
    """

    paths: tuple[KeyPath, ...]
    message: str
    hint: str = ""


def dotted(path: KeyPath) -> str:
    """Return a path as people write it: ``reward.0.weight``."""
    return ".".join(format_key(part) if isinstance(part, str) else str(part) for part in path)


def explain(error: ErrorDetails, data: Mapping[str, object], model: type[BaseModel]) -> Problem:
    """Turn one finding of the validation into a problem.

    Args:
        error: the finding.
        data: the file as tables and lists, as it was validated.
        model: that it was validated as.
    """
    if error["type"] == CONFLICT:
        context = error["ctx"]
        paths = tuple(_split(key) for key in str(context["keys"]).split(","))
        return Problem(paths, str(context["message"]), str(context["hint"]))
    if error["type"] == "extra_forbidden":
        return _unknown(error["loc"], error["input"], model)
    path, value = _reach(error["loc"], data, model)
    is_short = error["type"] == "too_short" and _schema_key(path) in section_names(model)
    if error["type"] == "missing" or is_short:
        return _missing(error["loc"], model)
    return _wrong_value(path, value, model)


def _split(key: str) -> KeyPath:
    return tuple(int(part) if part.isdecimal() else part for part in key.split("."))


def _reach(
    location: KeyPath, data: Mapping[str, object], model: type[BaseModel]
) -> tuple[KeyPath, object]:
    """Follow a location as far as the file goes, past names of the validation's own types."""
    value: object = data
    path: KeyPath = ()
    for part in location:
        spec = key_specs(model).get(_schema_key(path))
        if spec is not None and spec.kind != "options":
            break
        inner = dict(enumerate(value)) if isinstance(value, list) else value
        if not isinstance(inner, Mapping):
            break
        if part not in inner:
            continue
        value = inner[part]
        path += (part,)
    return path, value


def _schema_key(path: KeyPath) -> str:
    return ".".join(part for part in path if isinstance(part, str))


def _unknown(path: KeyPath, value: object, model: type[BaseModel]) -> Problem:
    hint = key_hint(_schema_key(path[:-1]), str(path[-1]), model)
    is_section = isinstance(value, Mapping) or (
        isinstance(value, list) and all(isinstance(item, Mapping) for item in value) and value != []
    )
    what = f"section [{dotted(path)}]" if is_section else f"key {dotted(path)}"
    return Problem((path,), f"Unknown {what}.", hint)


def _missing(path: KeyPath, model: type[BaseModel]) -> Problem:
    key = _schema_key(path)
    if key in section_names(model):
        (line, *_) = model.model_fields[key].examples or ["..."]
        return Problem(
            (path,),
            f"There is no {key}.",
            f"add a {section_header(key, model)} section with a line such as {line}",
        )
    spec = key_specs(model)[key]
    return Problem((path,), f"{dotted(path)} is missing.", f"{spec.key}: {spec.description}")


def _wrong_value(path: KeyPath, value: object, model: type[BaseModel]) -> Problem:
    name, key = dotted(path), _schema_key(path)
    if key in section_names(model):
        kind = "a list of sections" if key == name and key in list_names(model) else "a section"
        return Problem(
            (path,),
            f"{name} is {_found(value)}, but must be {kind}.",
            f"write {section_header(key, model)} above its keys",
        )
    spec = key_specs(model).get(key)
    if spec is None:
        # Only the names below a reward's options are not keys of the schema.
        return Problem(
            (path,),
            f"{name} is {_found(value)}, but must be text, a finite number, true or false, or a "
            "list or table of these.",
            "a date or time is written in quotes",
        )
    return Problem(
        (path,), f"{name} is {_found(value)}, but must be {spec.expected}.", _tip(spec, value)
    )


def _found(value: object) -> str:
    if isinstance(value, str):
        return f"the text {format_value(value)}"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        is_flat = all(isinstance(item, str | int | float) for item in value)
        return f"the list {format_value(value)}" if is_flat else "a list"
    return format_value(value) if isinstance(value, int | float) else "a date or time"


def _tip(spec: KeySpec, value: object) -> str:
    explained = f"{spec.key}: {spec.description}"
    if not isinstance(value, str):
        return explained
    close = nearest(value, spec.choices)
    if close is not None:
        return f"did you mean {format_value(close)}?"
    is_quoted_literal = spec.kind in {"int", "float"} and _is_number(value)
    if is_quoted_literal or (spec.kind == "bool" and value in {"true", "false"}):
        return f"write it without quotes: {spec.key.rpartition('.')[2]} = {value}"
    return explained


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
