"""Conformance of adapters that are given first frames, or the source images of edits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ddrl.errors import DataError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.records import Condition
from ddrl.testing.require import require


def check_given_frames(
    model: DiffusersModel,
    texts: Sequence[str],
    first_frames: Tensor,
    *,
    frames: int,
    latents: Tensor,
) -> None:
    """Check what every family holds that is given frames, or source images.

    Args:
        model: set to take as many as there are.
        texts: U texts, U at least 2.
        first_frames: pixels in [0, 1], shape (U, F, 3, H, W).
        frames: of the clips.
        latents: of U clips of that size.

    Raises:
        ConformanceError: the first that fails.
    """
    _check_counts(model, texts, first_frames)
    _check_condition(model, texts, first_frames, frames)
    _check_velocity(model, texts, first_frames, frames, latents)
    if model.given_latents:
        _check_put_back(model, texts, first_frames, frames, latents)


def _refuses(call: Callable[[], object]) -> bool:
    try:
        call()
    except DataError as error:
        return bool(error.hint)
    return False


def _check_counts(model: DiffusersModel, texts: Sequence[str], first_frames: Tensor) -> None:
    allowed, count = model.allowed_given_frames, model.given_frames
    require(count in allowed, f"{count} given frames are not among those allowed, {allowed}.")
    for wrong in sorted({0, 1, max(allowed) + 1} - set(allowed)):
        refused = _refuses(lambda n=wrong: setattr(model, "given_frames", n))  # type: ignore[misc]
        require(refused, f"{wrong} given frames are not refused with a hint.")
    require(model.given_frames == count, "a number that is refused is set all the same.")
    once = first_frames[:, :1].repeat(1, count + 1, 1, 1, 1)
    for wrongly, what in ((first_frames[1:], "too few rows"), (once, "too many frames")):
        refused = _refuses(lambda given=wrongly: model.encode(texts, first_frames=given))  # type: ignore[misc]
        require(refused, f"first frames with {what} are not refused with a hint.")


def _fields(condition: Condition) -> dict[str, Tensor]:
    values = {f.name: getattr(condition, f.name) for f in dataclasses.fields(condition)}
    return {name: value for name, value in values.items() if value is not None}


def _check_condition(
    model: DiffusersModel, texts: Sequence[str], first_frames: Tensor, frames: int
) -> None:
    """Texts and frames are encoded apart, and each row by itself: both are kept in a cache."""
    whole = _fields(model.encode(texts, first_frames=first_frames, frames=frames))
    of_texts = _fields(model.encode(texts))
    rows = [
        model.encode_given(row[None], frames=frames, texts=[text])
        for row, text in zip(first_frames, texts, strict=True)
    ]
    names = set(rows[0])
    require(bool(names), "encode_given gives nothing.")
    require(not names & set(of_texts), "a field comes from the text and from the frames.")
    require(names | set(of_texts) == set(whole), "encode_given lacks a field of encode.")
    changed = [name for name in of_texts if not torch.equal(of_texts[name], whole[name])]
    require(not changed, f"the first frames change what comes from the text: {changed}.")
    for name in names:
        # Those of a pair are as long as its text: the longest of those that are encoded together.
        error = max(
            float((row[name][0].float() - _as_long(one, row[name][0]).float()).abs().max())
            for row, one in zip(rows, whole[name], strict=True)
        )
        require(error <= 1e-4, f"{name} of a row depends on the others, by {error:.2g}.")


def _check_velocity(
    model: DiffusersModel,
    texts: Sequence[str],
    first_frames: Tensor,
    frames: int,
    latents: Tensor,
) -> None:
    t = torch.full((len(latents),), 0.5)
    without = _refuses(lambda: model.predict(latents, t, model.encode(texts)))
    require(without, "predict does without first frames, or has no hint.")
    other = first_frames.clone()
    other[0] = 1 - other[0]
    with torch.no_grad():
        before, after = (
            model.predict(latents, t, model.encode(texts, first_frames=given, frames=frames))
            for given in (first_frames, other)
        )
    require(not torch.equal(before[0], after[0]), "the velocity ignores the first frames.")
    require(torch.equal(before[1:], after[1:]), "a first frame changes other rows' velocity.")


def _check_put_back(
    model: DiffusersModel,
    texts: Sequence[str],
    first_frames: Tensor,
    frames: int,
    latents: Tensor,
) -> None:
    """The given frames begin the decoded clip, as the VAE alone would show them."""
    condition = model.encode(texts, first_frames=first_frames, frames=frames)
    clip = model.decode(latents, condition)
    require(clip.shape[1] == frames, f"decode gives {clip.shape[1]} frames of {frames}.")
    if not model.shows_given:
        return
    count = model.given_frames
    other = model.decode(-latents, condition)
    same = torch.equal(clip[:, :count], other[:, :count])
    require(same, "the given frames of the decoded clip depend on what was generated.")
    model.given_frames = 0
    try:
        alone = model.decode(model.encode_media(first_frames)).reshape(first_frames.shape)
    finally:
        model.given_frames = count
    error = float((clip[:, :count] - alone).abs().max())
    # A clip of another length is summed in another order, so that the last bits may differ.
    require(error <= 1e-5, f"decode puts the given frames back with an error of {error:.2g}.")


def _as_long(row: Tensor, other: Tensor) -> Tensor:
    """A row without the padding that it has beyond another's; a number is as it is."""
    return row[: len(other)] if other.ndim else row
