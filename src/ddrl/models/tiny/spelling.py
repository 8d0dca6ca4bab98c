"""The pieces of a text that a spelling model knows: words, and the letters of quoted ones."""

from __future__ import annotations

from collections.abc import Iterable


def pieces(text: str) -> list[str]:
    """Words as they stand, what is in quotation marks letter by letter.

    A letter has a quotation mark before it, so that it is not a word of one letter:
    'a "to"' becomes a, "t, "o.
    """
    found: list[str] = []
    for place, part in enumerate(text.split('"')):
        found += [f'"{letter}' for letter in part] if place % 2 else part.split()
    return found


def vocabulary_of(texts: Iterable[str]) -> tuple[str, ...]:
    """The pieces of all texts, each once, in the order of the alphabet."""
    return tuple(sorted({piece for text in texts for piece in pieces(text)}))
