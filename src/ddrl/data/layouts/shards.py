"""Samples in webdataset shards: uncompressed tar archives of media and captions."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from ddrl.data.layouts.bounds import Bounds
from ddrl.data.layouts.captions import pair
from ddrl.data.layouts.columns import Columns
from ddrl.data.layouts.listing import is_clutter
from ddrl.data.locators import Locator, TarLocator
from ddrl.data.media.formats import MEDIA_SUFFIXES, suffix_of
from ddrl.data.problems import Problem
from ddrl.data.samples import Sample
from ddrl.data.splits import Splits, split_of
from ddrl.disk import open_regular

# What tarfile raises over a broken archive; headers may be nested without end, too.
_BROKEN = (tarfile.TarError, OSError, EOFError, ValueError, ArithmeticError, RecursionError)
MAX_HEADER = 1 << 20  # bytes of a header that holds a long name or other facts about a member


def find_in_shards(
    root: Path, shards: Iterable[Path], bounds: Bounds, splits: Splits, columns: Columns
) -> tuple[list[Sample], list[Problem]]:
    """Find the samples of tar archives; members pair up to the first dot of their file name.

    Raises:
        DataError: there is no such split.
    """
    samples: list[Sample] = []
    problems: list[Problem] = []
    members: dict[str, dict[str, Locator]] = {}
    for shard in shards:
        where = shard.name if root == shard else shard.relative_to(root).as_posix()
        if shard != root and (refusal := bounds.refusal(where, shard)):
            problems.append(refusal)
        else:
            members[where] = _members(shard, where, problems)
    if not splits.is_chosen:  # an archive of a whole set has folders of its own
        names = [name for entries in members.values() for name in entries]
        media = [split_of(name) for name in names if suffix_of(name) in MEDIA_SUFFIXES]
        left = set(media) - splits.choose(media, unit="file", may_be_subject=True)
        for where, entries in members.items():
            members[where] = {n: one for n, one in entries.items() if split_of(n) not in left}
    for where, entries in members.items():
        paired, more = pair(entries, prefix=f"{where}/", key_of=_key, columns=columns)
        samples += paired
        problems += more
    return samples, problems


def _members(shard: Path, where: str, problems: list[Problem]) -> dict[str, Locator]:
    """Return the members of a shard, as far as it can be read."""
    entries: dict[str, Locator] = {}
    try:
        file = _Headers(open_regular(shard))
    except OSError as error:
        problems.append(Problem(where, "unreadable", f"can't be read: {error.strerror}"))
        return entries
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
    return entries


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
        if member.isdir() or any(is_clutter(part) for part in name.split("/")):
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
