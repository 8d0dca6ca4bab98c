"""Samples in webdataset shards: uncompressed tar archives of media and captions."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from ddrl.data.bounds import Bounds
from ddrl.data.captions import pair
from ddrl.data.locators import Locator, TarLocator
from ddrl.data.problems import Problem
from ddrl.data.samples import Sample
from ddrl.disk import open_regular

__all__ = ["find_in_shards"]

# What tarfile raises over a broken archive; headers may be nested without end, too.
_BROKEN = (tarfile.TarError, OSError, EOFError, ValueError, ArithmeticError, RecursionError)
MAX_HEADER = 1 << 20  # bytes of a header that holds a long name or other facts about a member


def find_in_shards(
    root: Path, shards: Iterable[Path], bounds: Bounds
) -> tuple[list[Sample], list[Problem]]:
    """Find the samples of tar archives; members pair up to the first dot of their file name."""
    samples: list[Sample] = []
    problems: list[Problem] = []
    for shard in shards:
        where = shard.name if root == shard else shard.relative_to(root).as_posix()
        if shard != root and (refusal := bounds.refusal(where, shard)):
            problems.append(refusal)
            continue
        entries: dict[str, Locator] = {}
        try:
            file = _Headers(open_regular(shard))
        except OSError as error:
            problems.append(Problem(where, "unreadable", f"can't be read: {error.strerror}"))
            continue
        try:
            with file, tarfile.open(fileobj=file, mode="r:") as archive:
                problems += _read(archive, shard, where, entries)
                # After a damaged or missing header tarfile stops as if it were the end.
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                    raise tarfile.ReadError("it has no end mark")
        except _BROKEN as error:
            reason = " ".join(str(error).split())
            message = f"is a broken or truncated shard ({reason}); {len(entries)} members were read"
            problems.append(Problem(where, "broken_shard", message))
        paired, more = pair(entries, prefix=f"{where}/", key_of=_key)
        samples += paired
        problems += more
    return samples, problems


class _Headers(io.BufferedReader):
    """A shard as ``tarfile`` reads it: headers alone, whatever size they claim to have."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file.detach())  # type: ignore[attr-defined]

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header claims to have {size} bytes")
        return super().read(size)


def _read(
    archive: tarfile.TarFile, shard: Path, where: str, entries: dict[str, Locator]
) -> list[Problem]:
    """Put the members of a shard into ``entries``, as far as it can be read."""
    problems = []
    passed = -1
    for member in archive:
        if member.size < 0 or member.offset <= passed:
            raise tarfile.ReadError("a header leads back")
        passed = member.offset
        name = posixpath.normpath(member.name)
        if member.isdir() or posixpath.basename(name).startswith("."):
            continue
        path = f"{where}/{name}"
        if not member.isreg() or member.issparse():
            problems.append(Problem(path, "unreadable", "is a link or no plain file"))
        elif name in entries:
            message = "is in the shard twice; the first one counts"
            problems.append(Problem(path, "duplicate_name", message))
        else:
            entries[name] = TarLocator(shard, name, member.offset_data, member.size)
    return problems


def _key(name: str) -> str:
    """Folder and file name up to its first dot."""
    folder, file = posixpath.split(name)
    return posixpath.join(folder, file.partition(".")[0])
