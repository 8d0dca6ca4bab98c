"""The sizes of a run's media: one by height and width, or several by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SIZE = re.compile(r"([1-9]\d{0,5})x([1-9]\d{0,5})(?:x([1-9]\d{0,5}))?")


def as_sizes(value: object) -> object:
    """Lists to tuples, and one text with commas, which needs no quotes in a shell, to several."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",")) if value.strip() else ()
    return tuple(value) if isinstance(value, list) else value


def read_size(text: str, *, frames: int = 1) -> tuple[int, int, int] | None:
    """(height, width, frames) of ``"640x384"`` or ``"640x384x33"``, whose width comes first.

    Args:
        text: the size.
        frames: where it says none.

    Returns:
        The size; None if the text is none.
    """
    match = _SIZE.fullmatch(text)
    return None if match is None else (int(match[2]), int(match[1]), int(match[3] or frames))


def read_sizes(texts: Iterable[str], *, frames: int = 1) -> tuple[tuple[int, int, int], ...]:
    """Those of some texts that are sizes, as :func:`read_size` reads them."""
    return tuple(size for text in texts if (size := read_size(text, frames=frames)) is not None)


def size_name(size: tuple[int, int, int]) -> str:
    """Return a size as ``data.sizes`` has it, with its frames where it is of clips."""
    height, width, frames = size
    return f"{width}x{height}" + (f"x{frames}" if frames > 1 else "")
