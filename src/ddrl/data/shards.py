"""Samples in webdataset shards: uncompressed tar archives of media and captions."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterable
from pathlib import Path

from ddrl.data.captions import pair
from ddrl.data.locators import Locator, TarLocator
from ddrl.data.problems import Problem
from ddrl.data.samples import Sample

__all__ = ["find_in_shards"]


def find_in_shards(root: Path, shards: Iterable[Path]) -> tuple[list[Sample], list[Problem]]:
    """Find the samples of tar archives; members pair up to the first dot of their file name."""
    samples: list[Sample] = []
    problems: list[Problem] = []
    for shard in shards:
        where = shard.name if root == shard else shard.relative_to(root).as_posix()
        entries: dict[str, Locator] = {}
        try:
            with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
                problems += _read(archive, shard, where, entries)
                # After a damaged or missing header tarfile stops as if it were the end.
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                    raise tarfile.ReadError("it has no end mark")
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            reason = " ".join(str(error).split())
            message = f"is a broken or truncated shard ({reason}); {len(entries)} members were read"
            problems.append(Problem(where, "broken_shard", message))
        paired, more = pair(entries, prefix=f"{where}/", key_of=_key)
        samples += paired
        problems += more
    return samples, problems


def _read(
    archive: tarfile.TarFile, shard: Path, where: str, entries: dict[str, Locator]
) -> list[Problem]:
    """Put the members of a shard into ``entries``, as far as it can be read."""
    problems = []
    for member in archive:
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
