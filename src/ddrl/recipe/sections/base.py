"""What all sections of a recipe share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, StringConstraints

Options = dict[str, JsonValue]
"""A reward's own options: text, numbers, true and false, and lists and tables of these."""

NamedClass = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
"""``package.module:Class`` of the user's own."""

Source = Literal["digits", "moving_digits", "words", "files", "hub", "prompts"]
"""Where data are from, of what ddrl knows."""


def as_tuple(value: object) -> object:
    """Turn TOML's lists into tuples, because a frozen recipe should hold nothing mutable."""
    return tuple(value) if isinstance(value, list) else value


class Section(BaseModel):
    """What all sections share: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )
