"""Where the bytes of a media file are: in a file of its own, or within an archive."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from ddrl.data.problems import BrokenFileError

__all__ = ["FileLocator", "Locator", "TarLocator", "content_hash", "locate"]

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
            BrokenFileError: it can't be read.
        """
        try:
            return self.path.open("rb")
        except OSError as error:
            reason = error.strerror or error
            raise BrokenFileError(self.name, "unreadable", f"can't be read: {reason}") from error


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
        """Read the member into memory.

        Raises:
            BrokenFileError: the archive can't be read, or ends within the member.
        """
        try:
            with self.path.open("rb") as archive:
                archive.seek(self.offset)
                content = archive.read(self.size)
        except OSError as error:
            reason = error.strerror or error
            raise BrokenFileError(self.name, "unreadable", f"can't be read: {reason}") from error
        if len(content) < self.size:
            raise BrokenFileError(self.name, "broken", "is cut off, because its shard is")
        return io.BytesIO(content)


def locate(source: Locator | Path) -> Locator:
    """Return the locator of a path, or the locator that it already is."""
    return FileLocator(source) if isinstance(source, Path) else source


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
            reason = error.strerror or error
            raise BrokenFileError(locator.name, "unreadable", f"can't be read: {reason}") from error
    return digest.hexdigest()
