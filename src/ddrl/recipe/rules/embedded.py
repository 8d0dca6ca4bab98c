"""Rules on the embedded clips and words: sizes that the data and the network of it can have."""

from __future__ import annotations

from collections.abc import Iterator

from ddrl.recipe.rules.conflict import Conflict
from ddrl.recipe.schema import Fields

SIZES = (9, 32)  # a digit has 8 pixels, and has to move
FRAMES = (2, 16)
WORD_PATCHES = (4, 8)


def clip_conflicts(recipe: Fields) -> Iterator[Conflict]:
    """Yield the conflicts of ``moving_digits``."""
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
                f"data.{name} is {value}, but moving_digits has clips of {low} to {high}.",
                f"set data.{name}, for example to {8 if name == 'frames' else 12}",
            )
    if model.network != "dit":
        yield Conflict(
            ("model.network", "data.source"),
            f"model.network is {model.network}, but the network of clips is a transformer.",
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
                f"data.{key} {value} can't be cut into patches of model.{part} = {size}.",
                f"make data.{key} a multiple of model.{part}",
            )


def word_conflicts(recipe: Fields) -> Iterator[Conflict]:
    """Yield the conflicts of ``words``."""
    model, data = recipe.model, recipe.data
    if data.source != "words":
        return
    if model.network != "dit":
        yield Conflict(
            ("model.network", "data.source"),
            f"model.network is {model.network}, but the network that spells is a transformer.",
            'set model.network = "dit"',
        )
    if model.patch not in WORD_PATCHES:
        yield Conflict(
            ("model.patch", "data.source"),
            f"model.patch is {model.patch}, but the network that spells has patches of 4 or 8.",
            "set model.patch to 8, or to 4 for four times as many",
        )
    if model.width % 16:
        yield Conflict(
            ("model.width", "data.source"),
            f"model.width is {model.width}, but the network that spells has a multiple of 16.",
            "set model.width, for example to 128",
        )
    if data.frames > 1:
        yield Conflict(
            ("data.frames", "data.source"),
            f"data.frames is {data.frames}, but words are drawn in pictures.",
            "leave data.frames out",
        )
