"""One pass over a video by PyAV: the frames that a player shows, up to the first damage.

All that reads a video goes through here: what `ddrl data check` refuses can't be trained on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

from ddrl.data.locators import Locator
from ddrl.data.media.colour import strange_colour
from ddrl.data.media.formats import is_video, sniff
from ddrl.data.media.framing import check_size
from ddrl.data.problems import BrokenFileError, no_memory
from ddrl.errors import DataError

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

# A forced demuxer: a playlist that calls itself a video could open other files.
_DEMUXERS = {"mp4": "mp4", "webm": "matroska", "gif": "gif"}
# The decoders that come with FFmpeg leave the transparency of a webm out.
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# Without these a decoder hides damage: it copies what lies around it, or before it.
_ERRORS = "crccheck+explode"
# After a cut, frames list others as their references that are gone, but that they do not use.
_ERRORS_AFTER_CUT = "crccheck"
_IDR = 5  # the type of an H.264 unit before which no other frame is needed
_TAIL = 64  # bytes at the end of a file that may be padding
_MICROSECOND = Fraction(1, 1_000_000)


class Decoding:
    """A video that is being decoded.

    Args:
        locator: its file.
        file: the same, open.
        container: over the file.
        stream: the one that is shown.
        max_pixels: of a frame.

    Attributes:
        stream: the one that is shown.
        unit: of the frames' stamps, in seconds.
        lost: seconds before the first key frame: without it they can't be decoded.
    """

    def __init__(
        self,
        locator: Locator,
        file: BinaryIO,
        container: InputContainer,
        stream: VideoStream,
        max_pixels: int,
    ) -> None:
        self.stream = stream
        self.unit = Fraction(stream.time_base or _MICROSECOND)
        self.lost = Fraction(0)
        self._locator, self._file, self._container = locator, file, container
        self._end = Fraction(0)  # of what has been read of all streams, in seconds
        self._own_end = 0  # of what has been read of ours, in its units
        self._start: int | None = None  # the stamp of the first key frame
        self._first: int | None = None  # the stamp of the first frame that is shown
        self._size: tuple[int, int] | None = None
        # Frames may grow in mid-stream: the decoder refuses before it unpacks one.
        stream.codec_context.options = {"max_pixels": str(max_pixels), "err_detect": _ERRORS}
        self._with_alpha = self._alpha_decoder()

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the frames in the order in which they are shown, all of one size.

        A cut without re-encoding may begin off a key frame, and its first pictures can't be
        decoded: they are left out, as players do.

        Raises:
            BrokenFileError: the file ends early; a frame is damaged, has another size than the
                first, or a colour that can't be read.
        """
        last: int | None = None
        for packet in self._packets():
            for frame in self._decoded(packet):
                if frame.pts is None or (last is not None and frame.pts <= last):
                    continue  # another frame has its place
                last = frame.pts
                self._first = last if self._first is None else self._first
                self._check(frame)
                yield frame

    def check_end(self, stamps: Sequence[int]) -> None:
        """Refuse a video whose frames stop long before the file says: by more than two frames.

        Args:
            stamps: of all frames.

        Raises:
            BrokenFileError: it is cut off, or no frame of it can be decoded.
        """
        if not stamps:
            reason = "" if self._start is not None else ": it has no key frame"
            message = f"has no frame that can be decoded{reason}"
            raise BrokenFileError(self._locator.name, "broken", message)
        if not self._has_trailer() or (len(stamps) > 1 and self._ends_early(stamps)):
            plural = "" if len(stamps) == 1 else "s"
            message = f"is cut off after {len(stamps)} frame{plural} ({self._at(stamps[-1])})"
            raise BrokenFileError(self._locator.name, "broken", message)

    def _packets(self) -> Iterator[Packet | None]:
        """Yield the packets from the first key frame on, then None to empty the decoder."""
        begin: int | None = None
        for packet in self._container.demux():
            ours = packet.stream_index == self.stream.index
            if packet.is_corrupt and ours:
                raise self._damage(packet.pts, "the file ends within a frame")
            if packet.pts is None:
                continue  # also what ends a stream, which names the wrong one
            if not packet.is_discard:
                end = (packet.pts + (packet.duration or 0)) * Fraction(packet.time_base)
                self._end = max(self._end, end)
            if not ours:
                continue
            self._own_end = max(self._own_end, packet.pts + (packet.duration or 0))
            if self._start is None:
                if not packet.is_discard:
                    begin = packet.pts if begin is None else min(begin, packet.pts)
                if not packet.is_keyframe:
                    continue
                self._start = packet.pts
                if begin is not None:
                    self.lost = max(packet.pts - begin, 0) * self.unit
                codec = self.stream.codec_context
                if codec.name == "h264" and not _has_idr(packet, codec.extradata):
                    codec.options = {**codec.options, "err_detect": _ERRORS_AFTER_CUT}
            yield packet
        if self._start is not None:
            yield None

    def _decoded(self, packet: Packet | None) -> list[VideoFrame]:
        """Return what the decoder makes of a packet: nothing, if it needs frames before a cut."""
        import av

        try:
            frames = self.stream.decode(packet)
            if self._with_alpha is not None:
                frames = self._with_alpha.decode(packet)
        except (MemoryError, av.BlockingIOError):
            raise
        except av.FFmpegError as error:
            stamp = None if packet is None else packet.pts
            raise self._damage(stamp, error.strerror) from error
        for frame in frames:
            if frame.is_corrupt:
                raise self._damage(frame.pts, "the decoder had to guess a part of a frame")
        return frames

    def _check(self, frame: VideoFrame) -> None:
        """Refuse a frame of another size or of a strange colour."""
        size = (frame.width, frame.height)
        self._size = self._size or size
        if size != self._size:
            sizes = f"{self._size[0]} x {self._size[1]} to {size[0]} x {size[1]} pixels"
            message = f"changes its size {self._at(frame.pts)}, from {sizes}"
            raise BrokenFileError(self._locator.name, "broken", message)
        if strange := strange_colour(frame):
            raise BrokenFileError(
                self._locator.name, "unknown_colour", strange, hint="encode it again as BT.709"
            )

    def _alpha_decoder(self) -> Any:  # noqa: ANN401 - PyAV has no types
        """Return a decoder that sees the transparency of a webm; None where there is none."""
        import av

        name = _WITH_ALPHA.get(self.stream.codec_context.name, "")
        metadata = {key.lower(): value for key, value in self.stream.metadata.items()}
        if not name or metadata.get("alpha_mode") != "1":
            return None
        with suppress(av.FFmpegError, ValueError):
            decoder = av.CodecContext.create(name, "r")
            decoder.extradata = self.stream.codec_context.extradata
            return decoder
        message = f"is transparent, which needs an FFmpeg with {name}"
        raise BrokenFileError(self._locator.name, "unknown_colour", message)

    def _damage(self, stamp: int | None, reason: str | None) -> BrokenFileError:
        kind = sniff(self._locator, _rewound(self._file))
        where = "" if stamp is None else f", damaged {self._at(stamp)}"
        message = f"is a broken or truncated {kind}{where} ({reason or 'the decoder gave up'})"
        return BrokenFileError(self._locator.name, "broken", message)

    def _at(self, stamp: int | None) -> str:
        origin = self._first if self._first is not None else self._start or 0
        return f"at {float(max((stamp or 0) - origin, 0) * self.unit):.2f} s"

    def _ends_early(self, stamps: Sequence[int]) -> bool:
        margin = Fraction(3 * (stamps[-1] - stamps[0]), len(stamps) - 1)
        if self.stream.duration is not None:
            end: int = (self.stream.start_time or 0) + self.stream.duration
            return stamps[-1] + margin < end and self._own_end < end
        # Matroska tells the length of the whole file only: sound may last longer than pictures.
        duration = self._container.duration
        return duration is not None and self._end + margin * self.unit < duration * _MICROSECOND

    def _has_trailer(self) -> bool:
        """Return whether a GIF has the byte that ends it; nothing else says how long it is."""
        if self._container.format.name != "gif":
            return True
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(size - _TAIL, 0))
        return self._file.read().rstrip(b"\0").endswith(b";")


def _has_idr(packet: Packet, head: bytes | None) -> bool:
    """Return whether an H.264 packet starts decoding afresh in a stream of this head ("avcC")."""
    if not head or len(head) < 5 or head[0] != 1:
        return True
    content, at, size = bytes(packet), 0, (head[4] & 3) + 1
    while at + size < len(content):
        if content[at + size] & 31 == _IDR:
            return True
        at += size + int.from_bytes(content[at : at + size])
    return False


def _rewound(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file


@contextmanager
def opened(locator: Locator, file: BinaryIO, max_pixels: int) -> Iterator[Decoding]:
    """Open a video; whatever goes wrong with it inside names the file.

    Raises:
        BrokenFileError: it is no video, too large, or can't be decoded.
        DataError: PyAV is not installed.
    """
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
            stream = container.streams.best("video")  # not the picture of an album
            if stream is None:
                raise BrokenFileError(locator.name, "broken", "has no video in it")
            if stream.codec_context is None:
                raise BrokenFileError(locator.name, "broken", "is of a codec that is not known")
            height, width = stream.codec_context.height, stream.codec_context.width
            check_size(locator.name, height, width, max_pixels)
            yield Decoding(locator, file, container, stream, max_pixels)
    except (MemoryError, av.BlockingIOError) as error:  # the latter: no thread could be started
        raise no_memory(locator.name) from error
    except (av.FFmpegError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        message = f"is a broken or truncated {media_format} ({reason})"
        raise BrokenFileError(locator.name, "broken", message) from error
