"""Rules on ``data.sizes``."""

from __future__ import annotations

from collections.abc import Iterator

from ddrl.recipe.rules.conflict import Conflict
from ddrl.recipe.schema import Fields
from ddrl.recipe.sizes import read_size

_EXAMPLE = (
    'write width x height in pixels, such as data.sizes = ["640x384", "384x640"], or with frames '
    'of their own, such as ["640x384x33", "384x640x17"]'
)


def size_conflicts(recipe: Fields) -> Iterator[Conflict]:
    """Yield the conflicts of ``data.sizes``."""
    data = recipe.data
    if not data.sizes:
        return
    sizes = [read_size(text, frames=data.frames) for text in data.sizes]
    for place, (text, size) in enumerate(zip(data.sizes, sizes, strict=True)):
        if size is None:
            yield Conflict(("data.sizes",), f'data.sizes has "{text}", which is no size.', _EXAMPLE)
        elif size in sizes[:place]:
            yield Conflict(
                ("data.sizes",), f"data.sizes has {text} twice.", "leave one of them out"
            )
    for key in ("height", "width"):
        value = getattr(data, key)
        if value != type(data).model_fields[key].default:
            yield Conflict(
                (f"data.{key}", "data.sizes"),
                f"data.{key} is {value}, but data.sizes says what sizes there are.",
                f"leave data.{key} out, and have its size in data.sizes",
            )
    if data.source not in {"files", "hub"}:
        yield Conflict(
            ("data.sizes", "data.source"),
            f"data.sizes is of media, and data.source {data.source} has none of other sizes.",
            "leave data.sizes out; data.height and data.width are the size of samples for prompts",
        )
    if len(data.sizes) > 1:
        yield from _several(recipe)


def _several(recipe: Fields) -> Iterator[Conflict]:
    """Yield what takes one size."""
    data, objective = recipe.data, recipe.objective
    if data.anchor in {"synthetic", "mixed"}:
        yield Conflict(
            ("data.sizes", "data.anchor"),
            f"data.anchor {data.anchor} samples the base at one size, and data.sizes has "
            f"{len(data.sizes)}.",
            'set data.anchor = "paired" or "independent", or give one size',
        )
    if objective.advantage == "tilt" and objective.policy != "none":
        yield Conflict(
            ("data.sizes", "objective.advantage"),
            "objective.advantage tilt scores all data of a prompt together, and "
            f"data.sizes has {len(data.sizes)}.",
            "choose another advantage, or give one size",
        )
    if data.source_images:
        yield Conflict(
            ("data.sizes", "data.source_images"),
            f"data.sizes has {len(data.sizes)}, and edits are trained at one size.",
            "give one size, or leave data.source_images out",
        )
    if data.given_frames and data.anchor == "independent":
        yield Conflict(
            ("data.sizes", "data.anchor"),
            "data.anchor independent takes data of any prompt, but given frames have the size of "
            "their own clip.",
            'set data.anchor = "paired", or give one size',
        )
