"""Rules on the embedded clips: sizes that the data and the network of it can have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ddrl.recipe.conflict import Conflict

if TYPE_CHECKING:
    from ddrl.recipe.schema import Recipe

__all__ = ["clip_conflicts"]

SIZES = (9, 32)  # a digit has 8 pixels, and has to move
FRAMES = (2, 16)


def clip_conflicts(recipe: Recipe) -> Iterator[Conflict]:
    """The conflicts of ``moving_digits``."""
    model, data = recipe.model, recipe.data
    if data.source != "moving_digits":
        return
    for name, value, (low, high) in (
        ("height", data.height, SIZES),
        ("width", data.width, SIZES),
        ("frames", data.frames, FRAMES),
    ):
        if not low <= value <= high:
            yield Conflict(
                (f"data.{name}", "data.source"),
                f"data.{name} is {value}, but moving_digits has clips of {low} to {high}",
                f"set data.{name}, for example to {8 if name == 'frames' else 12}",
            )
    if model.network != "dit":
        yield Conflict(
            ("model.network", "data.source"),
            f"model.network is {model.network}, but the network of clips is a transformer",
            'set model.network = "dit"',
        )
    for key, value, part in (
        ("height", data.height, "patch"),
        ("width", data.width, "patch"),
        ("frames", data.frames, "patch_frames"),
    ):
        size = getattr(model, part)
        if value % size:
            yield Conflict(
                (f"model.{part}", f"data.{key}"),
                f"data.{key} {value} can't be cut into patches of model.{part} = {size}",
                f"make data.{key} a multiple of model.{part}",
            )
