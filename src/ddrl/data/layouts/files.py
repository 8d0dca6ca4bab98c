"""Finds the samples of a data set on disk: which media, with which captions.

Nothing is decoded here; :mod:`ddrl.data.check` and :mod:`ddrl.data.encoded.cache` do that. What
does not fit together becomes a :class:`~ddrl.data.problems.Problem`. The layouts:

- ``folder``: ``name.png`` (jpg, jpeg, webp, mp4, webm, mov, gif) beside ``name.txt`` or
  ``name.caption``, or beside ``name.json`` with ``{"caption": ..., "first_frame": ...}``; in
  folders of any depth;
- ``jsonl``: lines of ``{"caption": ..., "path": ..., "first_frame": ...}``, paths relative to it;
  or such a table as ``.csv``, or the ``metadata.jsonl`` and ``metadata.csv`` of an imagefolder;
- ``shards``: webdataset ``.tar`` archives, uncompressed, members paired as files of a folder are;
- ``parquet``: ``.parquet`` files, or a folder that ``datasets`` has saved.

Of edits each sample has a source image, too: ``name.source.png`` beside ``name.png``, or a key or
column ``source`` in its record, list or table.

Where a set has named splits, training takes ``train``; :mod:`ddrl.data.splits` tells them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddrl.data.layouts.bounds import Bounds, Outside
from ddrl.data.layouts.columns import Columns
from ddrl.data.layouts.folders import find_in_folder
from ddrl.data.layouts.listing import LIST_SUFFIXES, Listing, look
from ddrl.data.layouts.lists import find_in_lists
from ddrl.data.layouts.shards import find_in_shards
from ddrl.data.layouts.tables import find_in_tables
from ddrl.data.problems import OUTSIDE_HINT, OnBroken, Problem, settle
from ddrl.data.samples import Sample
from ddrl.data.splits import AUTO, Splits, check_numbers, split_of
from ddrl.errors import DataError, printable

Layout = Literal["auto", "folder", "jsonl", "shards", "parquet"]

_USUAL = Columns()


@dataclass(frozen=True)
class Found:
    """What a data set holds.

    Attributes:
        root: the data set.
        samples: in the order of their names.
        problems: what does not fit together, in the order of its paths.
        others: suffixes of files that can't be read, such as ``.zip``.
    """

    root: Path
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...] = ()
    others: tuple[str, ...] = ()


def find_samples(
    path: Path,
    *,
    layout: Layout = "auto",
    outside: Outside = "refuse",
    split: str = AUTO,
    columns: Columns = _USUAL,
) -> Found:
    """Find the samples of a folder, list, shard or table.

    Args:
        path: the data set.
        layout: how it is laid out; ``auto`` goes by what is there.
        outside: what becomes of files that links or paths find outside of it.
        split: which of its splits are taken: ``auto``, ``all``, or names with ``+`` between them.
        columns: of captions and media, where they have no usual names.

    Raises:
        DataError: there is no such path, its layout can't be told, or it has no such split.
    """
    if not path.exists():
        raise DataError(f"There is no data at {path}.", hint="give a folder or a file")
    bounds, splits = Bounds.of(path, outside), Splits(split, str(path))
    listing = look(path) if path.is_dir() else None
    kind = _layout_of(path, listing) if layout == "auto" else layout
    if kind == "folder":
        if listing is None:
            raise DataError(f"{path} is no folder.", hint="give the folder that holds the media")
        samples, problems = find_in_folder(path, bounds, splits, columns)
    else:
        find = {"jsonl": find_in_lists, "shards": find_in_shards, "parquet": find_in_tables}[kind]
        parts = [path] if listing is None else _parts(path, kind, listing, splits)
        samples, problems = find(path, parts, bounds, splits, columns)
    splits.check_met()
    problems += bounds.notes() + ([] if splits.note is None else [splits.note])
    samples.sort(key=lambda sample: (sample.name, sample.id))
    problems.sort(key=lambda problem: (problem.path, problem.kind, problem.message))
    _check_ids(samples)
    return Found(path, tuple(samples), tuple(problems), () if listing is None else listing.others)


def usable(found: Found, *, on_broken: OnBroken) -> tuple[Sample, ...]:
    """Return the samples under a policy.

    Raises:
        DataError: there is a problem and the policy is to stop, or there is no sample at all.
    """
    settle(found.problems, on_broken=on_broken, where=str(found.root))
    if not found.samples:
        broken = [problem for problem in found.problems if not problem.is_note]
        reason = f": {broken[0]}" if broken else ""
        raise DataError(
            f"There is no captioned media file in {found.root}{reason}.", hint=_what_helps(found)
        )
    return found.samples


def _what_helps(found: Found) -> str:
    if any(problem.kind == "outside" for problem in found.problems):
        return OUTSIDE_HINT
    if found.others and not found.problems:
        return f"unpack what is in {', '.join(found.others)} files, or pack it in .tar or .parquet"
    return "`ddrl data check` says what is there; name.png goes with name.txt or name.json"


def _parts(path: Path, kind: Layout, listing: Listing, splits: Splits) -> list[Path]:
    """Return the tables, shards or lists of the splits that are taken."""
    parts, suffix = {
        "jsonl": (listing.lists, "jsonl"),
        "shards": (listing.shards, "tar"),
    }.get(kind, (listing.tables, "parquet or .arrow"))
    if not parts:
        raise DataError(f"{path} has no .{suffix} file in it.", hint="leave the layout out")
    of = {
        part: listing.splits.get(part)
        or split_of(part.relative_to(path).as_posix(), is_container=True)
        for part in parts
    }
    kept = splits.choose(of.values(), unit="file")
    taken = [part for part in parts if of[part] in kept]
    check_numbers(taken)
    return taken


def _layout_of(path: Path, listing: Listing | None) -> Layout:
    if listing is None:
        kinds: dict[str, Layout] = {
            **dict.fromkeys(LIST_SUFFIXES, "jsonl"),
            ".tar": "shards",
            ".parquet": "parquet",
            ".arrow": "parquet",
        }
        if path.suffix.lower() not in kinds:
            raise DataError(
                f"{path} is no data set.",
                hint=f"a data set is a folder, or a {', '.join(kinds)} file",
            )
        return kinds[path.suffix.lower()]
    there = listing.kinds()
    if len(there) > 1:
        raise DataError(
            f"{path} can be read in more than one way: as {' or '.join(there)}.",
            hint=f'set data.layout = "{there[0]}", or say so with `ddrl data check --layout`',
        )
    return there[0] if there else "folder"


def _check_ids(samples: Sequence[Sample]) -> None:
    names: dict[int, str] = {}
    for sample in samples:
        other = names.setdefault(sample.id, sample.name)
        if other is not sample.name:
            raise DataError(
                f"{printable(other)} and {printable(sample.name)} have the same identity.",
                hint="rename one of them",
            )
