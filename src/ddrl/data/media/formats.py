"""Which media formats are read, and how a file's content tells its format."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import BinaryIO

from ddrl.data.locators import Locator
from ddrl.data.problems import BrokenFileError

# The format that each suffix stands for. A ``.mov`` and an ``.mp4`` are one container format.
_FORMAT = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".mp4": "mp4",
    ".mov": "mp4",
    ".webm": "webm",
    ".gif": "gif",
}
_VIDEO = frozenset({"mp4", "webm", "gif"})

MEDIA_SUFFIXES = tuple(_FORMAT)
IMAGE_SUFFIXES = tuple(suffix for suffix, name in _FORMAT.items() if name not in _VIDEO)
VIDEO_SUFFIXES = tuple(suffix for suffix, name in _FORMAT.items() if name in _VIDEO)

_QUICKTIME_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in lower case, with its dot."""
    return PurePosixPath(name).suffix.lower()


def is_video(media_format: str) -> bool:
    """Return whether a format may be a video, shape (T, 3, H, W)."""
    return media_format in _VIDEO


def is_image(media_format: str) -> bool:
    """Return whether a format may be a single image, shape (3, H, W); a GIF may be either."""
    return media_format == "gif" or media_format not in _VIDEO


def expected_format(name: str) -> str:
    """Return the format that a file name promises, or an empty string."""
    return _FORMAT.get(suffix_of(name), "")


def sniff(locator: Locator, file: BinaryIO) -> str:
    """Return the format that a file's first bytes tell, and rewind the file.

    The name is not asked, so that a JPEG called ``a.png`` is read; but a video whose name says
    image, or the reverse, is an error, because a whole pipeline would take it for something else.

    Returns:
        One of png, jpeg, webp, mp4, webm, gif.

    Raises:
        BrokenFileError: it is empty, of no known format, or of the other kind than its name says.
    """
    head = file.read(16)
    file.seek(0)
    if not head:
        raise BrokenFileError(locator.name, "empty_file", "is empty (0 bytes)")
    found = _by_first_bytes(head)
    promised = expected_format(locator.name)
    if not found:
        if promised == "gif" or not promised:
            message = "is neither an image nor a video of a known format"
        else:
            message = f"is named as {promised}, but its content is something else"
        raise BrokenFileError(
            locator.name,
            "wrong_extension" if promised else "broken",
            message,
            hint=f"the known formats are {', '.join(MEDIA_SUFFIXES)}",
        )
    if promised and is_video(found) != is_video(promised):
        raise BrokenFileError(
            locator.name,
            "wrong_extension",
            f"is named as {promised}, but its content is {found}",
            hint="rename it to what it is",
        )
    return found


def _by_first_bytes(head: bytes) -> str:
    starts = {
        b"\x89PNG\r\n\x1a\n": "png",
        b"\xff\xd8\xff": "jpeg",
        b"GIF8": "gif",
        b"\x1a\x45\xdf\xa3": "webm",
    }
    for magic, name in starts.items():
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return "mp4" if head[4:8] in _QUICKTIME_BOXES else ""
