"""How media are brought to the few sizes that a model is trained on, and clips to their frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddrl.data.problems import BrokenFileError
from ddrl.errors import DataError

ClipStart = Literal["start", "centre"]
"""Which part of a clip that is longer than needed is taken."""

# Images above this are refused: 64 megapixels, an 8192 x 8192 square (200 MB as RGB).
DEFAULT_MAX_PIXELS = 1 << 26


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """A size of training data.

    Attributes:
        height: pixels.
        width: pixels.
        frames: of a clip; 1 is for images.
    """

    height: int
    width: int
    frames: int = 1

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.frames) < 1:
            raise DataError(
                f"A bucket's height, width and frames must be 1 or more: {self}.",
                hint="set data.height, data.width and data.frames to 1 or more",
            )

    def __str__(self) -> str:
        size = f"{self.width}x{self.height}"
        return size if self.frames == 1 else f"{size}, {self.frames} frames"


@dataclass(frozen=True)
class Framing:
    """What becomes of a media file before it is encoded.

    Attributes:
        buckets: the sizes; the one of the nearest aspect ratio is taken.
        fps: frames per second of clips; None keeps each clip's own.
        start: which part of a longer clip is taken.
        max_pixels: images, or frames, with more are refused without being decoded.
    """

    buckets: tuple[Bucket, ...]
    fps: float | None = None
    start: ClipStart = "start"
    max_pixels: int = DEFAULT_MAX_PIXELS

    def __post_init__(self) -> None:
        if not self.buckets:
            raise DataError(
                "There are no buckets: at least one size is needed.",
                hint="set data.height and data.width",
            )
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise DataError(
                f"The frames per second must be above 0, not {self.fps}.",
                hint="for example data.fps = 16",
            )

    def key(self, bucket: Bucket) -> dict[str, object]:
        """Return what the framed pixels of a file in this bucket depend on, as JSON."""
        clip = {} if bucket.frames == 1 else {"fps": self.fps, "start": self.start}
        return {"bucket": asdict(bucket), **clip}


def choose_bucket(name: str, height: int, width: int, frames: int, framing: Framing) -> Bucket:
    """Return the bucket of a file: of those it has the frames for, the nearest aspect ratio.

    Ratios are compared by their logarithm, so that 2:1 and 1:2 are as far from a square. Among
    equals: most frames, then the largest that needs no enlarging, then the smallest.

    Args:
        name: the file, for the message.
        height: of the file, in pixels.
        width: of the file, in pixels.
        frames: how many it has at ``framing.fps``; 0 for an image.
        framing: has the buckets.

    Raises:
        BrokenFileError: the clip is too short for all buckets, or no bucket is for its kind.
    """
    article, kind = ("a", "video") if frames else ("an", "image")
    kindred = [bucket for bucket in framing.buckets if (bucket.frames > 1) == (frames > 0)]
    if not kindred:
        raise BrokenFileError(
            name, "no_bucket", f"is {article} {kind}, and no bucket is for {kind}s"
        )
    possible = [bucket for bucket in kindred if bucket.frames <= max(frames, 1)]
    if not possible:
        needed = min(bucket.frames for bucket in kindred)
        rate = "" if framing.fps is None else f" at {framing.fps:g} fps"
        raise BrokenFileError(
            name, "too_short", f"has {_count(frames)}{rate}, and {needed} are needed"
        )

    def order(bucket: Bucket) -> tuple[float, int, bool, int]:
        ratio = math.log(bucket.width / bucket.height) - math.log(width / height)
        area = bucket.height * bucket.width
        enlarges = bucket.height > height or bucket.width > width
        return round(abs(ratio), 9), -bucket.frames, enlarges, area if enlarges else -area

    return min(possible, key=order)


def _count(frames: int) -> str:
    return f"{frames} frame{'' if frames == 1 else 's'}"


def fit(pixels: Tensor, bucket: Bucket) -> Tensor:
    """Scale and centre-crop to a bucket's height and width, by antialiased bicubic filtering.

    Args:
        pixels: uint8, shape (3, H, W) or (T, 3, H, W).
        bucket: its frames are not looked at.

    Returns:
        uint8, the same shape with the bucket's height and width.
    """
    if pixels.ndim == 4:
        return torch.stack([fit(frame, bucket) for frame in pixels])
    _, height, width = pixels.shape
    scale = min(height / bucket.height, width / bucket.width)
    crop_height, crop_width = bucket.height * scale, bucket.width * scale
    top, left = (height - crop_height) / 2, (width - crop_width) / 2
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    box = (
        max(left, 0.0),
        max(top, 0.0),
        min(left + crop_width, width),
        min(top + crop_height, height),
    )
    size = (bucket.width, bucket.height)
    return as_tensor(image.resize(size, Image.Resampling.BICUBIC, box=box))


def check_size(name: str, height: int, width: int, max_pixels: int) -> None:
    """Refuse an image or a frame that is too large.

    Raises:
        BrokenFileError: it has more than ``max_pixels``.
    """
    if height * width > max_pixels:
        message = f"has {width} x {height} pixels, more than the limit of {max_pixels}"
        raise BrokenFileError(name, "too_large", message, hint="scale it down")


def as_tensor(image: Image.Image) -> Tensor:
    """Return an RGB image as a tensor, uint8, shape (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def num_available(times: Sequence[Fraction], fps: float | None) -> int:
    """Return how many frames a clip has at a frame rate.

    Args:
        times: when each frame is shown, in seconds, ascending.
        fps: the rate; None is the clip's own.
    """
    if fps is None or len(times) < 2:
        return len(times)
    # The last frame is nearest to all times up to half an interval after it.
    end = times[-1] - times[0] + _interval(times) / 2
    return math.floor(end * Fraction(fps)) + 1


def _interval(times: Sequence[Fraction]) -> Fraction:
    """Return the mean time between frames, in seconds."""
    return (times[-1] - times[0]) / (len(times) - 1)


def pick_frames(
    times: Sequence[Fraction],
    *,
    fps: float | None = None,
    num_frames: int | None = None,
    start: ClipStart = "start",
) -> list[int]:
    """Choose frames that lie evenly in time: each is the nearest to its time, ties to the earlier.

    Args:
        times: when each frame is shown, in seconds, ascending.
        fps: the rate to sample at; None takes consecutive frames.
        num_frames: how many; None takes as many as there are. No more than
            :func:`num_available`.
        start: from the first frame on, or the middle of the clip.

    Returns:
        Positions in ``times``, ascending; a position repeats where the clip's own rate is lower.
    """
    count = num_available(times, fps) if num_frames is None else num_frames
    if fps is None:
        first = (len(times) - count) // 2 if start == "centre" else 0
        return list(range(first, first + count))
    step = 1 / Fraction(fps)
    begin = times[0]
    if start == "centre":
        begin += max((times[-1] - times[0] - (count - 1) * step) / 2, Fraction(0))
    picked, near = [], 0
    for k in range(count):
        wanted = begin + k * step
        while near + 1 < len(times) and abs(times[near + 1] - wanted) < abs(times[near] - wanted):
            near += 1
        picked.append(near)
    return picked
