"""What a rule finds that ties several keys of a recipe together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conflict:
    """Keys whose values don't go together.

    Attributes:
        keys: the dotted keys at fault, the one to change first.
        message: one sentence.
        hint: what to do about it.
    """

    keys: tuple[str, ...]
    message: str
    hint: str
