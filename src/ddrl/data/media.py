"""Media files of any kind: what they are, and their pixels in the bucket that fits them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from ddrl.data.formats import expected_format, is_video, sniff
from ddrl.data.framing import (
    DEFAULT_MAX_PIXELS,
    Bucket,
    Framing,
    choose_bucket,
    fit,
    num_available,
)
from ddrl.data.images import image_size, read_image
from ddrl.data.locators import Locator, locate
from ddrl.data.problems import Problem
from ddrl.data.videos import Timeline, check_length, read_timeline, read_video

__all__ = ["Facts", "Framed", "frame_media", "probe", "to_unit"]


@dataclass(frozen=True)
class Facts:
    """What a media file is: of an image by its head, of a video by all of its frames.

    Attributes:
        media_format: png, jpeg, webp, mp4, webm or gif, by its content.
        misnamed: whether its name says another format.
        height: pixels.
        width: pixels.
        timeline: of a video; None for an image, which a GIF of one frame is, too.
    """

    media_format: str
    misnamed: bool
    height: int
    width: int
    timeline: Timeline | None = None

    def bucket(self, name: str, framing: Framing) -> Bucket:
        """Return the bucket that the file goes to.

        Raises:
            BrokenFileError: there is none, or the clip is too short.
        """
        frames = 0
        if self.timeline is not None:
            needed = min((b.frames for b in framing.buckets if b.frames > 1), default=None)
            if needed is not None:
                check_length(name, self.timeline, fps=framing.fps, num_frames=needed)
            frames = num_available(self.timeline.times, framing.fps)
        return choose_bucket(name, self.height, self.width, frames, framing)


@dataclass(frozen=True)
class Framed:
    """The pixels of one file, ready to be encoded.

    Attributes:
        bucket: its size.
        pixels: uint8, shape (3, H, W) of an image or (T, 3, H, W) of a clip.
    """

    bucket: Bucket
    pixels: Tensor


def probe(source: Locator | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Facts:
    """Look at a media file: the head of an image, every frame of a video.

    Raises:
        BrokenFileError: that much can't be read.
    """
    locator = locate(source)
    with locator.open() as file:
        found = sniff(locator, file)
    misnamed = expected_format(locator.name) not in {found, ""}
    if is_video(found):
        line = read_timeline(locator, max_pixels=max_pixels)
        is_still = found == "gif" and len(line.stamps) == 1
        return Facts(found, misnamed, line.height, line.width, None if is_still else line)
    return Facts(found, misnamed, *image_size(locator, max_pixels=max_pixels))


def frame_media(source: Locator | Path, framing: Framing, *, facts: Facts | None = None) -> Framed:
    """Read a file into the bucket that fits it.

    Args:
        source: an image or a video.
        framing: buckets and frame rate.
        facts: of :func:`probe`, if they are there already.

    Raises:
        BrokenFileError: it can't be read, or fits no bucket.
    """
    locator = locate(source)
    facts = facts or probe(locator, max_pixels=framing.max_pixels)
    bucket = facts.bucket(locator.name, framing)
    if facts.timeline is None:
        return Framed(bucket, fit(read_image(locator, max_pixels=framing.max_pixels), bucket))
    pixels = read_video(
        locator,
        fps=framing.fps,
        num_frames=bucket.frames,
        start=framing.start,
        max_pixels=framing.max_pixels,
        timeline=facts.timeline,
        transform=lambda frame: fit(frame, bucket),
    )
    return Framed(bucket, pixels)


def to_unit(pixels: Tensor) -> Tensor:
    """Bytes to numbers: uint8 pixels to float32 in [0, 1], of the same shape."""
    return pixels.float() / 255
