"""Videos by PyAV: frames at the times that are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from PIL import Image
from torch import Tensor

from ddrl.data.formats import is_video, sniff
from ddrl.data.framing import (
    DEFAULT_MAX_PIXELS,
    ClipStart,
    as_tensor,
    check_size,
    num_available,
    pick_frames,
)
from ddrl.data.locators import Locator, locate
from ddrl.data.problems import BrokenFileError, no_memory
from ddrl.errors import DataError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["Timeline", "count_frames", "read_timeline", "read_video"]

# A forced demuxer: a playlist that calls itself a video could open other files.
_DEMUXERS = {"mp4": "mp4", "webm": "matroska", "gif": "gif"}
_TAIL = 64  # bytes at the end of a file that may be padding
_MAX_ASPECT = Fraction(16)  # of a pixel, to either side; those of film and television are below 3
_MICROSECOND = Fraction(1, 1_000_000)


@dataclass(frozen=True)
class Timeline:
    """What a video says of itself without being decoded, but for its first frame.

    Attributes:
        height: of the upright picture, in pixels.
        width: of the upright picture, in pixels.
        times: when each frame is shown, in seconds from the first, ascending.
        stamps: the same, in the file's own unit.
    """

    height: int
    width: int
    times: tuple[Fraction, ...]
    stamps: tuple[int, ...]

    @property
    def fps(self) -> float:
        """Frames per second, on average; 0 for a single frame."""
        span = float(self.times[-1])
        return (len(self.times) - 1) / span if span else 0.0

    @property
    def seconds(self) -> float:
        """How long the video is shown; 0 for a single frame."""
        return len(self.times) / self.fps if self.fps else 0.0


def read_timeline(source: Locator | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Timeline:
    """Read when each frame is shown, from the packets of the file.

    Raises:
        BrokenFileError: it is truncated, too large, or no video; the file is named.
    """
    locator = locate(source)
    with locator.open() as file, _opened(locator, file, max_pixels) as (container, stream):
        stamps: set[int] = set()
        first: Image.Image | None = None
        end = Fraction(0)

        def pictured(frame: VideoFrame) -> Image.Image:
            return _picture(locator, frame, stream, max_pixels)

        for packet in container.demux():
            if packet.is_corrupt:
                raise _cut_off(locator, len(stamps))
            if packet.pts is None or packet.is_discard:
                continue
            end = max(end, (packet.pts + (packet.duration or 0)) * Fraction(packet.time_base))
            if packet.stream_index != stream.index:
                continue
            stamps.add(packet.pts)
            if first is None:
                first = next((pictured(frame) for frame in stream.decode(packet)), None)
        first = first or next((pictured(frame) for frame in stream.decode(None)), None)
        if first is None:
            raise BrokenFileError(locator.name, "broken", "has no frame that can be decoded")
        ordered = sorted(stamps)
        unit = Fraction(stream.time_base or _MICROSECOND)
        times = tuple((stamp - ordered[0]) * unit for stamp in ordered)
        if _ends_early(container, stream, times, end) or not _has_trailer(container, file):
            raise _cut_off(locator, len(times))
    return Timeline(first.height, first.width, times, tuple(ordered))


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
    wanted = [line.stamps[i] for i in picked]
    frames: dict[int, Tensor] = {}
    with locator.open() as file, _opened(locator, file, max_pixels) as (container, stream):
        missing = set(wanted)
        for frame in _decoded(locator, container, stream):
            if frame.pts in missing:
                pixels = as_tensor(_picture(locator, frame, stream, max_pixels))
                frames[frame.pts] = pixels if transform is None else transform(pixels)
                missing.remove(frame.pts)
                if not missing:
                    break
    if missing:
        raise _cut_off(locator, len(frames))
    return torch.stack([frames[stamp] for stamp in wanted])


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


def count_frames(source: Locator | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> int:
    """Decode all of a video, keep nothing, and return how many frames came out.

    Raises:
        BrokenFileError: a frame can't be decoded; the file is named.
    """
    locator = locate(source)
    count = 0
    with locator.open() as file, _opened(locator, file, max_pixels) as (container, stream):
        for frame in _decoded(locator, container, stream):
            if frame.is_corrupt:
                raise _cut_off(locator, count)
            count += 1
    return count


@contextmanager
def _opened(
    locator: Locator, file: BinaryIO, max_pixels: int
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video; whatever goes wrong with it inside names the file."""
    try:
        import av
    except ImportError as error:
        raise DataError(
            f"{locator.name} is a video, and reading videos needs PyAV.",
            hint="pip install 'ddrl[models]'",
        ) from error
    media_format = sniff(locator, file)
    if not is_video(media_format):
        raise BrokenFileError(locator.name, "wrong_extension", f"is no video, but {media_format}")
    try:
        with av.open(file, "r", format=_DEMUXERS[media_format]) as container:
            if not container.streams.video:
                raise BrokenFileError(locator.name, "broken", "has no video in it")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise BrokenFileError(locator.name, "broken", "is of a codec that is not known")
            height, width = stream.codec_context.height, stream.codec_context.width
            check_size(locator.name, height, width, max_pixels)
            # Frames may grow in mid-stream: the decoder refuses before it unpacks one.
            stream.codec_context.options = {"max_pixels": str(max_pixels)}
            yield container, stream
    except MemoryError as error:
        raise no_memory(locator.name) from error
    except (av.FFmpegError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        message = f"is a broken or truncated {media_format} ({reason})"
        raise BrokenFileError(locator.name, "broken", message) from error


def _decoded(
    locator: Locator, container: InputContainer, stream: VideoStream
) -> Iterator[VideoFrame]:
    """The frames of a video, all of one size.

    Raises:
        BrokenFileError: one has another size than the first.
    """
    first: tuple[int, int] | None = None
    for number, frame in enumerate(container.decode(stream), 1):
        size = (frame.width, frame.height)
        first = first or size
        if size != first:
            sizes = f"{first[0]} x {first[1]} to {size[0]} x {size[1]} pixels"
            message = f"changes its size at frame {number}, from {sizes}"
            raise BrokenFileError(locator.name, "broken", message)
        yield frame


def _cut_off(locator: Locator, num_frames: int) -> BrokenFileError:
    plural = "" if num_frames == 1 else "s"
    return BrokenFileError(locator.name, "broken", f"is cut off after {num_frames} frame{plural}")


def _ends_early(
    container: InputContainer, stream: VideoStream, times: tuple[Fraction, ...], end: Fraction
) -> bool:
    """Whether the frames stop long before the file says: by more than two frames."""
    if len(times) < 2:
        return False
    margin = 3 * times[-1] / (len(times) - 1)
    if stream.duration is not None:
        return times[-1] + margin < stream.duration * Fraction(stream.time_base or _MICROSECOND)
    # Matroska tells the length of the whole file only: sound may last longer than pictures.
    return container.duration is not None and end + margin < container.duration * _MICROSECOND


def _has_trailer(container: InputContainer, file: BinaryIO) -> bool:
    """Whether a GIF has the byte that ends it: nothing else in it says how long it is."""
    if container.format.name != "gif":
        return True
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _TAIL, 0))
    return file.read().rstrip(b"\0").endswith(b";")


def _picture(
    locator: Locator, frame: VideoFrame, stream: VideoStream, max_pixels: int
) -> Image.Image:
    """A frame as an upright RGB image with square pixels.

    Raises:
        BrokenFileError: its pixels have no shape that a video's have, or are too many if square.
    """
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        message = f"has pixels {aspect.numerator}:{aspect.denominator} as wide as high"
        raise BrokenFileError(locator.name, "broken", message)
    width = max(round(frame.width * aspect), 1)
    check_size(locator.name, frame.height, width, max_pixels)
    if any(component.is_alpha for component in frame.format.components):
        picture = Image.fromarray(frame.to_ndarray(format="rgba"))
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, picture).convert("RGB")
    else:
        image = Image.fromarray(frame.to_ndarray(format="rgb24"))
    if aspect != 1:
        image = image.resize((width, image.height), Image.Resampling.BICUBIC)
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image
