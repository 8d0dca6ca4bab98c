"""Videos: frames at the times that are asked for, upright and with square pixels."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from ddrl.data.locators import Locator, locate
from ddrl.data.media.colour import hdr_name, picture
from ddrl.data.media.decoding import Decoding, opened
from ddrl.data.media.framing import (
    DEFAULT_MAX_PIXELS,
    ClipStart,
    as_tensor,
    check_size,
    num_available,
    pick_frames,
)
from ddrl.data.problems import BrokenFileError, Problem

if TYPE_CHECKING:
    from av import VideoFrame

_MAX_ASPECT = Fraction(16)  # of a pixel, to either side; those of film and television are below 3
# How the signs of a display matrix's four numbers turn or mirror a picture.
_TURNS = {
    (1, 0, 0, 1): None,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


@dataclass(frozen=True)
class Timeline:
    """When a video shows its frames, all of which can be decoded.

    Attributes:
        height: of the upright picture, in pixels.
        width: of the upright picture, in pixels.
        stamps: when each frame is shown, in units from the first, ascending.
        unit: in seconds.
        notes: what is worth knowing.
    """

    height: int
    width: int
    stamps: tuple[int, ...]
    unit: Fraction
    notes: tuple[Problem, ...] = ()

    @functools.cached_property
    def times(self) -> tuple[Fraction, ...]:
        """When each frame is shown, in seconds from the first, ascending."""
        return tuple(stamp * self.unit for stamp in self.stamps)

    @property
    def fps(self) -> float:
        """Frames per second, on average; 0 for a single frame."""
        span = float(self.stamps[-1] * self.unit)
        return (len(self.stamps) - 1) / span if span else 0.0

    @property
    def seconds(self) -> float:
        """How long the video is shown; 0 for a single frame."""
        return len(self.stamps) / self.fps if self.fps else 0.0


def read_timeline(source: Locator | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Timeline:
    """Decode all of a video, keep nothing, and say when it shows which frame.

    This is the judgement of a video: a damage anywhere in it is one of the whole file.

    Raises:
        BrokenFileError: it is damaged, truncated, too large, or no video; the file and the time
            in the clip are named.
    """
    locator = locate(source)
    stamps: list[int] = []
    height = width = 0
    notes: list[Problem] = []
    with locator.open() as file, opened(locator, file, max_pixels) as video:
        for frame in video.frames():
            if not stamps:
                shown = _picture(locator, frame, video, max_pixels)
                height, width = shown.height, shown.width
                notes = _notes(locator, frame, video)
            stamps.append(frame.pts)
        video.check_end(stamps)
        relative = tuple(stamp - stamps[0] for stamp in stamps)
        return Timeline(height, width, relative, video.unit, tuple(notes))


def read_video(
    source: Locator | Path,
    *,
    fps: float | None = None,
    num_frames: int | None = None,
    start: ClipStart = "start",
    max_pixels: int = DEFAULT_MAX_PIXELS,
    timeline: Timeline | None = None,
    transform: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Read a clip from a video; rotation and pixel shape are applied, alpha is laid on white.

    Args:
        source: an mp4, mov, webm or gif, told by its content and not by its name.
        fps: the rate to sample at; None takes consecutive frames.
        num_frames: T; None takes all there are.
        start: from the first frame on, or the middle.
        max_pixels: a video with more per frame is refused without being decoded.
        timeline: of :func:`read_timeline`, if it is there already.
        transform: applied to each frame, (3, H, W), as it is decoded; saves memory.

    Returns:
        uint8, shape (T, 3, H, W).

    Raises:
        BrokenFileError: it is truncated, too large, too short, or no video; the file is named.
    """
    locator = locate(source)
    line = timeline or read_timeline(locator, max_pixels=max_pixels)
    check_length(locator.name, line, fps=fps, num_frames=num_frames)
    picked = pick_frames(line.times, fps=fps, num_frames=num_frames, start=start)
    wanted, frames = set(picked), dict[int, Tensor]()
    with locator.open() as file, opened(locator, file, max_pixels) as video:
        for number, frame in enumerate(video.frames()):
            if number in wanted:
                pixels = as_tensor(_picture(locator, frame, video, max_pixels))
                frames[number] = pixels if transform is None else transform(pixels)
                if len(frames) == len(wanted):
                    break
    if len(frames) < len(wanted):
        raise BrokenFileError(locator.name, "broken", "has changed while it was read")
    return torch.stack([frames[number] for number in picked])


def check_length(name: str, line: Timeline, *, fps: float | None, num_frames: int | None) -> None:
    """Refuse a video with too few frames; one frame is a still, unless just one is asked for.

    Raises:
        BrokenFileError: it is too short; says how many frames it has and how many are needed.
    """
    available, needed = num_available(line.times, fps), num_frames or 2
    if available >= needed:
        return
    own = len(line.times)
    has = f"has {own} frame{'' if own == 1 else 's'}"
    if own > 1:
        has += f" ({line.seconds:.2f} s at {line.fps:.4g} fps)"
    if fps is not None:
        has += f", which is {available} at {fps:g} fps"
    raise BrokenFileError(name, "too_short", f"{has}; {needed} are needed")


def _notes(locator: Locator, frame: VideoFrame, video: Decoding) -> list[Problem]:
    """Return what is worth knowing of a video, from its first frame."""
    notes: list[Problem] = []
    if video.lost:
        message = f"starts off a key frame: its first {float(video.lost):.2f} s can't be shown"
        notes.append(Problem(locator.name, "cut_start", message))
    if hdr := hdr_name(frame):
        message = f"is HDR ({hdr}), and is tone mapped to standard range"
        notes.append(Problem(locator.name, "tone_mapped", message))
    return notes


def _picture(locator: Locator, frame: VideoFrame, video: Decoding, max_pixels: int) -> Image.Image:
    """Return a frame as an upright RGB image with square pixels.

    Raises:
        BrokenFileError: its pixels have no shape that a video's have, or are too many if square;
            or it is turned by no right angle.
    """
    aspect = video.stream.sample_aspect_ratio or Fraction(1)
    if not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        message = f"has pixels {aspect.numerator}:{aspect.denominator} as wide as high"
        raise BrokenFileError(locator.name, "broken", message)
    width = max(round(frame.width * aspect), 1)
    check_size(locator.name, frame.height, width, max_pixels)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    signs = (1, 0, 0, 1)
    if matrix is not None:
        a, b, _, c, d, *_ = struct.unpack_from("=9i", bytes(matrix))
        signs = tuple((number > 0) - (number < 0) for number in (a, b, c, d))
    if signs not in _TURNS:
        message = f"is to be shown turned by {abs(frame.rotation)} degrees"
        hint = "turn its frames and encode it again"
        raise BrokenFileError(locator.name, "broken", message, hint=hint)
    image, turn = picture(frame), _TURNS[signs]
    if aspect != 1:
        image = image.resize((width, image.height), Image.Resampling.BICUBIC)
    return image if turn is None else image.transpose(turn)
