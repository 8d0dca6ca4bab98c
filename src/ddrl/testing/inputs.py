"""Conformance of adapters to what users give them: texts of any length, and sizes of any kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Tensor

from ddrl.errors import DataError
from ddrl.models.base import DiffusionModel
from ddrl.records import Condition
from ddrl.testing.require import ConformanceError, require

ENOUGH = 6000  # letters, more than any family's limit of tokens with tokens of a letter


def check_text_lengths(
    model: DiffusionModel, encode: Callable[[list[str]], Condition], latents: Tensor
) -> None:
    """Check that texts of any length are encoded, each as if alone, and cut off somewhere.

    Args:
        model: the adapter.
        encode: any number of texts to their condition, first frames included.
        latents: of one sample, shape (1, ...).

    Raises:
        ConformanceError: the first that fails.
    """
    texts = ["", "short", "x" * 300, "x" * ENOUGH]
    together = encode(texts)
    require(len(together) == len(texts), f"encode gives {len(together)} for {len(texts)} texts.")
    values = [getattr(together, field.name) for field in fields(together)]
    tracked = any(isinstance(value, Tensor) and value.requires_grad for value in values)
    require(not tracked, "encode keeps a graph for gradients.")
    velocity = _velocity(model, latents, together)
    for index in (0, 2, 3):
        row, text = velocity[index], texts[index]
        called = f"a text of {len(text)} letters"
        require(bool(row.isfinite().all()), f"{called} gives values that are not finite.")
        longer = text + "y" * (len(text) == ENOUGH)  # nor does what is cut off matter
        off = _distance(row, _velocity(model, latents, encode([longer]))[0])
        require(off <= 1e-4, f"{called} depends by {off:.2g} on what it is encoded with.")


def check_sizes(
    model: DiffusionModel, media: Tensor, latent_shape: tuple[int, ...]
) -> tuple[int, ...]:
    """Check that sizes that can't be made are refused, with a hint that names one that can.

    Args:
        model: the adapter.
        media: pixels of a size that it makes.
        latent_shape: of one of them.

    Returns:
        The shape of the latents of the smallest sides.

    Raises:
        ConformanceError: the first that fails.
    """
    (height, width), frames = media.shape[-2:], media.shape[1] if media.ndim == 5 else 1
    shape = model.latent_shape(height, width, frames)
    require(shape == latent_shape, f"latent_shape gives {shape} for the media.")
    for size in ((height + 1, width, frames), (height, width + 1, frames)):
        _refused(model, *size)
    other = _refused(model, height, width, frames + 1)
    require(media.ndim == 5 or other is not None, "images of 2 frames are not refused.")
    return model.latent_shape(*(_refused(model, 1, 1, frames) or (1, 1, frames)))


def check_smallest(model: DiffusionModel, shape: tuple[int, ...], condition: Condition) -> None:
    """Check that the network takes the smallest latents, with a condition of length 1.

    Raises:
        ConformanceError: it does not.
    """
    velocity = _velocity(model, torch.ones(1, *shape), condition)
    require(velocity.shape == (1, *shape), f"predict gives {velocity.shape} for {(1, *shape)}.")
    require(bool(velocity.isfinite().all()), f"latents of {shape} give values that aren't finite.")


def _refused(
    model: DiffusionModel, height: int, width: int, frames: int
) -> tuple[int, int, int] | None:
    """The size that the hint names instead, or None if this one is made.

    Raises:
        ConformanceError: there is no hint, or it does not help.
    """
    try:
        model.latent_shape(height, width, frames)
    except DataError as error:
        hint = error.hint
    else:
        return None
    if sides := re.search(r"(\d+)x(\d+)", hint):
        height, width = int(sides[1]), int(sides[2])
    elif number := re.search(r"\d+", hint):
        frames = int(number[0])
    try:
        model.latent_shape(height, width, frames)
    except DataError as error:
        message = f"A size is refused with a hint that does not help: {hint!r}."
        raise ConformanceError(message) from error
    return height, width, frames


def _velocity(model: DiffusionModel, latents: Tensor, condition: Condition) -> Tensor:
    x = latents.expand(len(condition), *latents.shape[1:])
    with torch.no_grad():
        return model.predict(x, torch.full((len(x),), 0.5), condition)


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())
