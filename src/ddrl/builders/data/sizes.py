"""The sizes of a recipe's media as its model takes them."""

from __future__ import annotations

import re

from ddrl.errors import DataError, UsageError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.recipe import Recipe
from ddrl.recipe.sizes import read_size, size_name

Size = tuple[int, int, int]
"""(height, width, frames)."""


def latent_shapes(recipe: Recipe, model: DiffusersModel) -> tuple[tuple[int, ...], ...]:
    """The shape of one sample's latents of each size.

    Raises:
        DataError: the model can't make media of one of the sizes.
    """
    data = recipe.data
    if not data.sizes:
        return tuple(model.latent_shape(*size) for size in data.shapes)
    return tuple(latent_shape_of(model, size) for size in data.shapes)


def latent_shape_of(model: DiffusersModel, size: Size) -> tuple[int, ...]:
    """The shape of a size that is written as width x height.

    Raises:
        DataError: the model can't make media of this size; in the order that it is written in.
    """
    height, width, _ = size
    name = size_name(size)
    try:
        return model.latent_shape(*size)
    except DataError as error:
        message = error.message.replace(f"{height}x{width}", f"{width}x{height}")
        hint = re.sub(r"\b(\d+)x(\d+)\b", r"\2x\1", error.hint)
        hint = hint.replace("set data.height and data.width to", "choose sides of")
        raise DataError(f"The size {name} can't be had: {message}", hint=hint) from error


def sample_size(recipe: Recipe, asked: str) -> Size:
    """The size of samples that are asked for: ``640x384``, or nothing for the data's first.

    Raises:
        UsageError: it is no size, or the model makes one size alone.
    """
    if not asked:
        return recipe.data.shapes[0]
    size = read_size(asked, frames=recipe.data.frames)
    if size is None:
        raise UsageError(
            f"--size {asked} is no size.", hint="write width x height in pixels: --size 640x384"
        )
    if recipe.model.is_embedded:
        raise UsageError("The embedded model makes samples of one size.", hint="leave --size out")
    return size
