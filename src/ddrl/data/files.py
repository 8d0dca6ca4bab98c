"""Finds the samples of a data set on disk: which media, with which captions.

Nothing is decoded here; :mod:`ddrl.data.check` and :mod:`ddrl.data.cache` do that. What does not
fit together becomes a :class:`~ddrl.data.problems.Problem`. The layouts:

- ``folder``: ``name.png`` (jpg, jpeg, webp, mp4, webm, mov, gif) beside ``name.txt``, or beside
  ``name.json`` with ``{"caption": ..., "first_frame": ...}``; in folders of any depth;
- ``jsonl``: lines of ``{"caption": ..., "path": ..., "first_frame": ...}``, paths relative to it;
- ``shards``: webdataset ``.tar`` archives, uncompressed, members paired as files of a folder are;
- ``parquet``: ``.parquet`` files, or a folder that ``datasets`` has saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddrl.data.folders import find_in_folder
from ddrl.data.formats import MEDIA_SUFFIXES, suffix_of
from ddrl.data.lists import find_in_lists
from ddrl.data.problems import OnBroken, Problem, settle
from ddrl.data.samples import Sample
from ddrl.data.shards import find_in_shards
from ddrl.data.tables import find_in_tables
from ddrl.errors import DataError, printable

__all__ = ["Found", "Layout", "find_samples", "usable"]

Layout = Literal["auto", "folder", "jsonl", "shards", "parquet"]


@dataclass(frozen=True)
class Found:
    """What a data set holds.

    Attributes:
        root: the data set.
        samples: in the order of their names.
        problems: what does not fit together, in the order of its paths.
    """

    root: Path
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...] = ()


def find_samples(path: Path, *, layout: Layout = "auto") -> Found:
    """Find the samples of a folder, list, shard or table.

    Args:
        path: the data set.
        layout: how it is laid out; ``auto`` goes by what is there.

    Raises:
        DataError: there is no such path, or its layout can't be told.
    """
    if not path.exists():
        raise DataError(f"There is no data at {path}.", hint="give a folder or a file")
    kind = _layout_of(path) if layout == "auto" else layout
    if kind == "folder":
        if not path.is_dir():
            raise DataError(f"{path} is no folder.", hint="give the folder that holds the media")
        samples, problems = find_in_folder(path)
    elif kind == "jsonl":
        samples, problems = find_in_lists(path, _parts(path, "*.jsonl"))
    elif kind == "shards":
        samples, problems = find_in_shards(path, _parts(path, "**/*.tar"))
    else:
        samples, problems = find_in_tables(path, _parts(path, "**/*.parquet", "**/*.arrow"))
    samples.sort(key=lambda sample: (sample.name, sample.id))
    problems.sort(key=lambda problem: (problem.path, problem.kind, problem.message))
    _check_ids(samples)
    return Found(path, tuple(samples), tuple(problems))


def usable(found: Found, *, on_broken: OnBroken) -> tuple[Sample, ...]:
    """Return the samples under a policy.

    Raises:
        DataError: there is a problem and the policy is to stop, or there is no sample at all.
    """
    settle(found.problems, on_broken=on_broken, where=str(found.root))
    if not found.samples:
        reason = f": {found.problems[0]}" if found.problems else ""
        raise DataError(
            f"There is no captioned media file in {found.root}{reason}.",
            hint="`ddrl data check` says what is there; name.png goes with name.txt or name.json",
        )
    return found.samples


def _parts(path: Path, *patterns: str) -> list[Path]:
    """The files of a data set: itself, or what a folder has, sorted."""
    if not path.is_dir():
        return [path]
    files = sorted({file for pattern in patterns for file in path.glob(pattern)})
    if not files:
        raise DataError(f"{path} has no {' or '.join(patterns)} in it.")
    return files


def _layout_of(path: Path) -> Layout:
    if not path.is_dir():
        kinds: dict[str, Layout] = {
            ".jsonl": "jsonl",
            ".tar": "shards",
            ".parquet": "parquet",
            ".arrow": "parquet",
        }
        if path.suffix.lower() not in kinds:
            raise DataError(
                f"{path} is no data set.",
                hint="a data set is a folder, or a .jsonl, .tar, .parquet or .arrow file",
            )
        return kinds[path.suffix.lower()]
    there: list[Layout] = []
    if any(path.glob("*.jsonl")):
        there.append("jsonl")
    if any(path.glob("*.tar")):
        there.append("shards")
    if any(path.glob("*.parquet")) or any(path.glob("*/*.parquet")) or any(path.glob("**/*.arrow")):
        there.append("parquet")
    if "jsonl" not in there and there and _has_media(path):
        there.append("folder")
    if len(there) > 1:
        raise DataError(
            f"{path} can be read in more than one way: as {' or '.join(there)}.",
            hint="name the layout, or give the file itself",
        )
    return there[0] if there else "folder"


def _has_media(path: Path) -> bool:
    return any(suffix_of(file.name) in MEDIA_SUFFIXES for file in path.iterdir())


def _check_ids(samples: Sequence[Sample]) -> None:
    names: dict[int, str] = {}
    for sample in samples:
        other = names.setdefault(sample.id, sample.name)
        if other is not sample.name:
            raise DataError(
                f"{printable(other)} and {printable(sample.name)} have the same identity.",
                hint="rename one of them",
            )
