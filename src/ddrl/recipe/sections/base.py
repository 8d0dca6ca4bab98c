"""What all sections of a recipe share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, JsonValue

Options = dict[str, JsonValue]
"""A reward's own options: text, numbers, true and false, and lists and tables of these."""


def as_tuple(value: object) -> object:
    """Turn TOML's lists into tuples, because a frozen recipe should hold nothing mutable."""
    return tuple(value) if isinstance(value, list) else value


class Section(BaseModel):
    """What all sections share: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )
