"""Media files of any kind: what they are, and their pixels in the bucket that fits them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from ddrl.data.locators import Locator, locate
from ddrl.data.media.formats import expected_format, is_video, sniff
from ddrl.data.media.framing import (
    DEFAULT_MAX_PIXELS,
    Bucket,
    Framing,
    check_size,
    choose_bucket,
    fit,
    num_available,
)
from ddrl.data.media.images import image_size, read_image
from ddrl.data.media.videos import Timeline, check_length, read_timeline, read_video
from ddrl.data.problems import Problem


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

    @property
    def notes(self) -> tuple[Problem, ...]:
        """What is worth knowing of a video."""
        return () if self.timeline is None else self.timeline.notes

    def as_json(self) -> dict[str, object]:
        """Return what depends on the content alone, for :func:`recall`."""
        line = self.timeline
        return {
            "media_format": self.media_format,
            "height": self.height,
            "width": self.width,
            "stamps": None if line is None else line.stamps,
            "unit": "1" if line is None else str(line.unit),
            "notes": [[note.kind, note.message] for note in self.notes],
        }

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


def recall(
    source: Locator, known: Mapping[str, Any], *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Facts:
    """Return the facts of a file whose content was probed before.

    Args:
        source: the file.
        known: of :meth:`Facts.as_json`.
        max_pixels: a larger picture is refused.

    Raises:
        BrokenFileError: it is too large, or of another kind than its name says.
    """
    with source.open() as file:
        found = sniff(source, file)
    height, width = known["height"], known["width"]
    check_size(source.name, height, width, max_pixels)
    notes = tuple(Problem(source.name, kind, message) for kind, message in known["notes"])
    line = None
    if known["stamps"] is not None:
        line = Timeline(height, width, tuple(known["stamps"]), Fraction(known["unit"]), notes)
    misnamed = expected_format(source.name) not in {found, ""}
    return Facts(found, misnamed, height, width, line)


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
