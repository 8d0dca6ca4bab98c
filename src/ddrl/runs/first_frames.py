"""First frames and source images from a user's files, brought to the size of a run's data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ddrl.runs.loaded import LoadedRun
from ddrl.data.media.framing import Bucket, fit
from ddrl.data.media.images import read_image
from ddrl.data.media.reading import probe, to_unit
from ddrl.data.problems import BrokenFileError
from ddrl.data.media.videos import check_length, read_video
from ddrl.errors import DataError, UsageError
from ddrl.recipe import Recipe
from ddrl.records import Condition


def read_first_frames(
    recipe: Recipe,
    files: Sequence[Path],
    size: tuple[int, int, int] | None = None,
    *,
    are_own: bool = False,
) -> Tensor | None:
    """Read a run's given frames, or source images, scaled and cropped as its data is.

    Args:
        recipe: of the run.
        files: pictures, or clips of which the first frames are taken.
        size: (height, width, frames) of the samples; None: the data's, of several the first.
        are_own: whether the prompts are those of the run's data, which bring their own.

    Returns:
        Pixels in [0, 1], shape (len(files), num_given, 3, H, W); None if the model takes none, or
        the prompts bring their own.

    Raises:
        UsageError: the model takes none and some are named, or the other way round; a picture is
            named where several frames are needed.
        DataError: a file can't be read, or is too short.
    """
    num, is_edit = recipe.data.num_given, bool(recipe.data.source_images)
    if not num and files:
        raise UsageError(
            "The run's model makes its samples from text alone, and takes no first frames and no "
            "source images.",
            hint="leave --first-frame and --source out",
        )
    if num and not files and not are_own:
        given = "a source image" if is_edit else f"{_frames(num)} of each clip"
        hint = "--first-frame picture.png" if num == 1 else "--first-frame clip.mp4"
        raise UsageError(
            f"The run's model is given {given}, and none is named.",
            hint="--source picture.png" if is_edit else hint,
        )
    if not num or not files:
        return None
    try:
        height, width, _ = size or recipe.data.shapes[0]
        return torch.stack([_read(recipe, file, Bucket(height, width)) for file in files])
    except BrokenFileError as error:
        raise DataError(
            f"The {'source image' if is_edit else 'first frame'} {error.message}",
            hint=error.hint or "name a png, jpeg, webp or gif picture, or a clip",
        ) from error


def _read(recipe: Recipe, file: Path, bucket: Bucket) -> Tensor:
    """The given frames of one file, shape (num_given, 3, H, W)."""
    data = recipe.data
    facts = probe(file)
    if facts.timeline is None:
        if data.num_given > 1:
            raise UsageError(
                f"{file} is a picture, but the run's model is given {_frames(data.given_frames)}.",
                hint="name a clip",
            )
        return to_unit(fit(read_image(file), bucket))[None]
    fps = data.fps or None
    check_length(file.name, facts.timeline, fps=fps, num_frames=data.num_given)
    pixels = read_video(
        file,
        fps=fps,
        num_frames=data.num_given,
        timeline=facts.timeline,
        transform=lambda frame: fit(frame, bucket),
    )
    return to_unit(pixels)


def one_for_each(first_frames: Tensor, num_prompts: int) -> Tensor:
    """The frames of every prompt, of one file for all of them or of one file each.

    Raises:
        UsageError: there are neither one nor as many files as prompts.
    """
    if len(first_frames) not in {1, num_prompts}:
        raise UsageError(
            f"There are {len(first_frames)} given pictures for {num_prompts} prompts.",
            hint="name one for all prompts, or one for each, in their order",
        )
    return first_frames.expand(num_prompts, *first_frames.shape[1:])


def encode_prompts(
    run: LoadedRun,
    prompts: Sequence[str],
    first_frames: Tensor | None,
    size: tuple[int, int, int] | None = None,
) -> Condition:
    """The condition of P prompts, with the frames that are given, shape (P, F, 3, H, W), if any.

    Args:
        run: whose model.
        prompts: P texts.
        first_frames: what is given.
        size: (height, width, frames) of the samples; None: the data's, of several the first.

    Raises:
        DataError: the model does not know a prompt.
    """
    if first_frames is None:
        return run.model.encode(prompts)
    *_, frames = size or run.recipe.data.shapes[0]
    return run.model.encode(prompts, first_frames=first_frames.to(run.device), frames=frames)


def _frames(num: int) -> str:
    return "the first frame" if num == 1 else f"the first {num} frames"
