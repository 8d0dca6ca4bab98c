"""The sizes of a run's media: one by height and width, or several by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ddrl.recipe.rules.conflict import Conflict

if TYPE_CHECKING:
    from ddrl.recipe.schema import Recipe

__all__ = ["as_sizes", "read_size", "read_sizes", "size_conflicts", "size_name"]

_SIZE = re.compile(r"([1-9]\d{0,5})x([1-9]\d{0,5})(?:x([1-9]\d{0,5}))?")
_EXAMPLE = (
    'write width x height in pixels, such as data.sizes = ["640x384", "384x640"], or with frames '
    'of their own, such as ["640x384x33", "384x640x17"]'
)


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
    """A size as ``data.sizes`` has it, with its frames where it is of clips."""
    height, width, frames = size
    return f"{width}x{height}" + (f"x{frames}" if frames > 1 else "")


def size_conflicts(recipe: Recipe) -> Iterator[Conflict]:
    """The conflicts of ``data.sizes``."""
    data = recipe.data
    if not data.sizes:
        return
    sizes = [read_size(text, frames=data.frames) for text in data.sizes]
    for place, (text, size) in enumerate(zip(data.sizes, sizes, strict=True)):
        if size is None:
            yield Conflict(("data.sizes",), f'data.sizes has "{text}", which is no size', _EXAMPLE)
        elif size in sizes[:place]:
            yield Conflict(("data.sizes",), f"data.sizes has {text} twice", "leave one of them out")
    for key in ("height", "width"):
        value = getattr(data, key)
        if value != type(data).model_fields[key].default:
            yield Conflict(
                (f"data.{key}", "data.sizes"),
                f"data.{key} is {value}, but data.sizes says what sizes there are",
                f"leave data.{key} out, and have its size in data.sizes",
            )
    if data.source not in {"files", "hub"}:
        yield Conflict(
            ("data.sizes", "data.source"),
            f"data.sizes is of media, and data.source {data.source} has none of other sizes",
            "leave data.sizes out; data.height and data.width are the size of samples for prompts",
        )
    if len(data.sizes) > 1:
        yield from _several(recipe)


def _several(recipe: Recipe) -> Iterator[Conflict]:
    """What takes one size."""
    data, objective = recipe.data, recipe.objective
    if data.anchor in {"synthetic", "mixed"}:
        yield Conflict(
            ("data.sizes", "data.anchor"),
            f"data.anchor {data.anchor} samples the base at one size, and data.sizes has "
            f"{len(data.sizes)}",
            'set data.anchor = "paired" or "independent", or give one size',
        )
    if objective.advantage == "tilt" and objective.policy != "none":
        yield Conflict(
            ("data.sizes", "objective.advantage"),
            "objective.advantage tilt scores all data of a prompt beside each other, and "
            f"data.sizes has {len(data.sizes)}",
            "choose another advantage, or give one size",
        )
    if data.source_images:
        yield Conflict(
            ("data.sizes", "data.source_images"),
            f"data.sizes has {len(data.sizes)}, and edits are trained at one size",
            "give one size, or leave data.source_images out",
        )
    if data.given_frames and data.anchor == "independent":
        yield Conflict(
            ("data.sizes", "data.anchor"),
            "data.anchor independent takes data of any prompt, but given frames have the size of "
            "their own clip",
            'set data.anchor = "paired", or give one size',
        )
