"""Files on disk: read where they are regular, written so that no reader sees half of one."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

BESIDE = ".writing-"
"""How the name of what is being written begins; a killed process leaves it behind."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

MAX_DOCUMENT = 64 << 20
"""Bytes of a recipe, a manifest or another document that are read at once."""


def file_stem(text: str, *, also: str = "", limit: int = 40) -> str:
    """Return what of a text can be part of a file's name on any file system.

    Letters of any script with their marks, in lower case and composed, and digits; all else becomes
    hyphens. Different texts may have the same stem.

    Args:
        text: any.
        also: characters that are kept, too.
        limit: characters at most, hence four times as many bytes; 120 bytes at most.

    Returns:
        The stem; empty where the text has no letter and no digit.
    """
    found: list[str] = []
    for one in unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower()):
        kind = unicodedata.category(one)[0]
        # A mark without its letter shows nothing, or joins what comes before it.
        is_kept = kind in "LN" or one in also or (kind == "M" and bool(found) and found[-1] != "-")
        if is_kept or (found and found[-1] != "-"):
            found.append(one if is_kept else "-")
    cut = "".join(found)[:limit].encode()[:120].decode(errors="ignore")
    return cut.strip("-")


def may_be_hub_id(text: str) -> bool:
    """Return whether what is no file here may be ``owner/name`` or ``owner/name@revision``.

    It is a path that leads nowhere if its first part is a folder here, it begins as a path does, or
    it has more parts.
    """
    name = text.partition("@")[0]
    return _HUB_ID.fullmatch(name) is not None and not Path(name).parent.is_dir()


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading, or what a link to one leads to.

    A pipe may never give a byte and a device may never end, so that neither is opened.

    Raises:
        OSError: it can't be read, or is something else; ``strerror`` says what.
    """
    check_regular(path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    number = os.open(path, flags)
    try:
        _check_mode(os.fstat(number).st_mode, path)  # it may be another file by now
        return open(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_regular(path: Path, *, limit: int = MAX_DOCUMENT) -> bytes:
    """Read a regular file whole.

    Args:
        path: of the file.
        limit: bytes that it may have.

    Raises:
        OSError: it can't be read, is no regular file, or is larger; ``strerror`` says what.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit >> 20} MiB", str(path))
    return content


def read_document(path: Path) -> str:
    """Read a text file: UTF-8, with or without a byte order mark; any line end becomes a line feed.

    Raises:
        OSError: as :func:`read_regular`.
        UnicodeDecodeError: it is in another encoding.
    """
    text = read_regular(path).decode("utf-8-sig")  # some editors write a byte order mark
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Read a JSON file.

    Raises:
        OSError: as :func:`read_regular`.
        ValueError: it is no JSON, in another encoding, or nested deeper than Python can follow.
    """
    return parse_json(read_document(path))


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty where it can't be read, or is something else."""
    try:
        value: object = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def parse_json(text: str) -> Any:  # noqa: ANN401
    """Return the value of a JSON text of which nothing is known.

    Raises:
        ValueError: it is no JSON, or nested deeper than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_regular(path: Path) -> None:
    """See that a library may open a file by its path.

    Raises:
        OSError: it is not there, or no regular file; ``strerror`` says what.
    """
    _check_mode(path.stat().st_mode, path)


def _check_mode(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, socket or device, no regular file", str(path))


def replace_file(path: Path, content: bytes | str | Callable[[Path], object]) -> None:
    """Put a file in a place at once: it is written beside, to the disk, and renamed.

    Whoever reads the place sees the old or the new file, whole. The new one may be read by whom
    the process lets read its files (``0666 & ~umask``), whatever a library made of it.

    Args:
        path: the place; its folder is there.
        content: bytes, text (as UTF-8), or what writes a file at the path that it is called with.

    Raises:
        OSError: it can't be written; nothing is left beside.
    """
    beside = path.with_name(f"{BESIDE}{secrets.token_hex(8)}")
    try:
        if isinstance(content, str):
            beside.write_bytes(content.encode())
        elif isinstance(content, bytes):
            beside.write_bytes(content)
        else:
            content(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.chmod(_new_mode())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def folder_beside(place: Path, *, name: str = "") -> Iterator[Path]:
    """Open an empty folder beside a place; what is still in it at the end is removed.

    The caller fills it, calls :func:`settle`, and renames it to the place.

    Args:
        place: where the folder is to be; its parents are made.
        name: what follows :data:`BESIDE` in the folder's name, in place of a random one; what an
            earlier process has left under it is removed.

    Raises:
        OSError: the folder can't be made.
    """
    beside = place.with_name(f"{BESIDE}{name or secrets.token_hex(8)}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def settle(folder: Path) -> None:
    """Send every file below a folder to the disk, with the mode of a new one.

    Raises:
        OSError: a file can't be written, or its mode can't be changed.
    """
    mode = _new_mode()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.chmod(mode)


def _new_mode() -> int:
    """Return the mode of a new file under the process's umask."""
    # It can only be read by setting it; for that moment other threads' files are private.
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask
