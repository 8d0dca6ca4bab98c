"""Where the bytes of a media file are: in a file of its own, or within an archive."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from ddrl.data.problems import BrokenFileError
from ddrl.disk import open_regular

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_TEXT = 1 << 20
"""Bytes of a caption, a record or a line: what is longer is none."""

_CHUNK = 1 << 20  # bytes that are read at once


class Locator(Protocol):
    """One media file, wherever it lies."""

    @property
    def name(self) -> str:
        """What messages call it; ends in the file's own suffix, if it has one."""

    def open(self) -> BinaryIO:
        """Open it for reading; what is returned can seek.

        Raises:
            BrokenFileError: it can't be read.
        """


@dataclass(frozen=True, slots=True)
class FileLocator:
    """A file of its own.

    Attributes:
        path: the file.
    """

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def open(self) -> BinaryIO:
        """Open the file.

        Raises:
            BrokenFileError: it can't be read, or is no regular file.
        """
        try:
            return open_regular(self.path)
        except (OSError, ValueError) as error:  # a value error: a zero byte in the name
            raise _unreadable(self.name, error) from error


@dataclass(frozen=True, slots=True)
class BytesLocator:
    """Bytes in memory.

    Attributes:
        name: what messages call them.
        content: the bytes.
    """

    name: str
    content: bytes = field(repr=False)

    def open(self) -> BinaryIO:
        """Open the bytes; never fails."""
        return io.BytesIO(self.content)


@dataclass(frozen=True, slots=True)
class TarLocator:
    """A member of an uncompressed tar archive.

    Attributes:
        path: the archive.
        member: the member's name.
        offset: where its content starts, in bytes.
        size: of its content, in bytes.
    """

    path: Path
    member: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """The archive and the member."""
        return f"{self.path}/{self.member}"

    def open(self) -> BinaryIO:
        """Open the part of the archive; nothing is read yet, whatever size it claims.

        Raises:
            BrokenFileError: the archive can't be read, or ends within the member.
        """
        try:
            archive = open_regular(self.path)
            if self.offset + self.size > os.fstat(archive.fileno()).st_size:
                archive.close()
                raise BrokenFileError(self.name, "broken", "is cut off, because its shard is")
        except OSError as error:
            raise _unreadable(self.name, error) from error
        return io.BufferedReader(_Part(archive, self.offset, self.size))


class _Part(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")[: max(0, self._size - self._at)]
        self._file.seek(self._start + self._at)
        content = self._file.read(len(view))
        view[: len(content)] = content
        self._at += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError(f"there is nothing at {origin + offset}")
        self._at = origin + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()


def _unreadable(name: str, error: OSError | ValueError) -> BrokenFileError:
    reason = getattr(error, "strerror", None) or error
    return BrokenFileError(name, "unreadable", f"can't be read: {reason}")


def locate(source: Locator | Path) -> Locator:
    """Return the locator of a path, or the locator that it already is."""
    return FileLocator(source) if isinstance(source, Path) else source


def read_text(locator: Locator) -> bytes:
    """Read a caption or a record; one that is longer than a text comes cut off, by a byte longer.

    Raises:
        BrokenFileError: it can't be read.
    """
    with locator.open() as file:
        try:
            return file.read(MAX_TEXT + 1)
        except OSError as error:
            raise _unreadable(locator.name, error) from error


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, one at a time.

    Yields:
        Lines without their end. One that is longer than a text comes cut off, longer by a byte
        than a text may be, and ends the file.

    Raises:
        OSError: the file can't be read, or is no regular file.
    """
    with open_regular(path) as file:
        while line := file.readline(MAX_TEXT + 2):
            yield line.removesuffix(b"\n")[: MAX_TEXT + 1]
            if len(line) > MAX_TEXT + 1 or (len(line) == MAX_TEXT + 1 and line[-1:] != b"\n"):
                return


def content_hash(source: Locator | Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal.

    Raises:
        BrokenFileError: it can't be read.
    """
    digest = hashlib.sha256()
    locator = locate(source)
    with locator.open() as file:
        try:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        except OSError as error:
            raise _unreadable(locator.name, error) from error
    return digest.hexdigest()
