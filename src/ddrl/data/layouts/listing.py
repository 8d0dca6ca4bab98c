"""Which files of a folder belong to the data set, and how it is laid out.

Left out are hidden files, what systems and libraries leave behind, and tables that only tell of
other files. Where a set lists its files, only these count.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ddrl.data.media.formats import MEDIA_SUFFIXES
from ddrl.disk import read_json
from ddrl.errors import DataError, printable

CAPTION_SUFFIXES = (".txt", ".caption", ".json")
"""Suffixes of captions beside media."""

LIST_SUFFIXES = (".jsonl", ".csv", ".tsv")
"""Suffixes of lists of media with captions."""

_TABLES = (".csv", ".tsv")

# What macOS, Windows, Synology and Python put into folders; hidden files are clutter, too.
_SYSTEM = frozenset(
    {"__MACOSX", "__pycache__", "@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found"}
    | {"System Volume Information"}
)
# What the library `datasets` leaves beside a set: results of `map`, half-written files and folders.
_LEFT_OVER = re.compile(r"((.*/)?(tmp[a-z0-9_]{8}|[^/]*\.incomplete)/.*)|(.*/)?(cache-|tmp)[^/]*")

# Texts about a data set, which are no captions even where no medium has their name.
_DOCUMENT = re.compile(
    r"(read[-_ ]?me|licen[cs]e|copying|copyright|notice|legal|terms|disclaimer|authors?|credits?"
    r"|contributors?|attributions?|acknowledge?ments?|citation|cite|references|change(s|log)"
    r"|version|about|todo|requirements|checksums?|(md5|sha\d+)(sums?)?)([-_. ].*)?"
)
_INDEX = re.compile(
    r"(notes?|info|index|manifest|contents|history|sources?|urls?|links?|metadata|classes|labels"
    r"|categories|vocab|tags|train|val|valid|validation|dev|test|eval|trainval|splits?|list|files"
    r"|names|captions?|prompts?|samples?|negatives?|wildcards|description|dataset|data)"
    r"([-_. ]?[a-z]+)*"
)


def is_clutter(name: str) -> bool:
    """Return whether a file or folder of this name is the system's: .DS_Store, ._name.png."""
    return name.startswith(".") or name in _SYSTEM


def is_paper(name: str) -> bool:
    """Return whether a text without a medium is about the data set: README.txt, classes.txt."""
    stem = posixpath.splitext(posixpath.basename(name))[0].lower()
    return bool(_DOCUMENT.fullmatch(stem) or _INDEX.fullmatch(stem))


@dataclass
class Listing:
    """The files of a folder by what they are, each as a path, sorted.

    Attributes:
        tables: parquet files, and the Arrow files that ``datasets`` has saved.
        shards: tar archives.
        lists: jsonl files, and metadata.csv or .jsonl beside media.
        splits: of tables whose set names them itself, by path.
        has_pairs: whether there are media with captions beside them.
        others: suffixes of what can't be read, such as ``.zip``.
    """

    tables: list[Path] = field(default_factory=list)
    shards: list[Path] = field(default_factory=list)
    lists: list[Path] = field(default_factory=list)
    splits: dict[Path, str] = field(default_factory=dict)
    has_pairs: bool = False
    others: tuple[str, ...] = ()

    def kinds(self) -> list[Literal["folder", "jsonl", "shards", "parquet"]]:
        """Return the layouts that it can be read as."""
        there: list[Literal["folder", "jsonl", "shards", "parquet"]] = []
        there += ["jsonl"] if self.lists else []
        there += ["shards"] if self.shards else []
        there += ["parquet"] if self.tables else []
        # A list names the media beside it; shards and tables do not.
        return [*there, "folder"] if self.has_pairs and there and not self.lists else there


def look(root: Path) -> Listing:
    """List the files of a data set's folder.

    Raises:
        DataError: a saved set lists files that are not there, or metadata is there twice.
    """
    names = set(files_of(root))
    found = Listing()
    stems: set[str] = set()
    media: set[str] = set()
    for name in sorted(names):
        stem, suffix = posixpath.splitext(name)
        suffix = suffix.lower()
        if suffix == ".tar":
            found.shards.append(root / name)
        elif suffix in MEDIA_SUFFIXES:
            media.add(stem)
        elif suffix in CAPTION_SUFFIXES:
            stems.add(stem)
    found.others = tuple(sorted({posixpath.splitext(n)[1].lower() for n in names} & _UNREAD))
    found.has_pairs = not media.isdisjoint(stems)
    saved = _saved(root, names)
    found.tables = [root / name for name in saved or _tables(names)]
    found.splits = {root / name: split for name, split in saved.items() if split}
    found.lists = [root / name for name in _lists(names, is_alone=not found.kinds())]
    if media and not found.has_pairs and not found.kinds():
        found.lists = [root / n for n in sorted(names) if "/" not in n and n.endswith(_TABLES)]
    return found


_UNREAD = frozenset({".zip", ".tgz", ".gz", ".zst", ".7z", ".rar", ".tfrecord", ".h5", ".lmdb"})


def files_of(root: Path) -> Iterator[str]:
    """Yield the paths of all files, relative to the folder; links to folders are not followed."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not is_clutter(name)]
        within = Path(folder).relative_to(root).as_posix()
        for name in files:
            if not is_clutter(name):
                yield name if within == "." else f"{within}/{name}"


def _tables(names: set[str]) -> list[str]:
    """Return the tables of samples that no set lists."""
    # img2dataset writes 00000.parquet beside 00000.tar, or beside the folder 00000.
    folders = {posixpath.dirname(name) for name in names}
    found = []
    for name in sorted(names):
        stem, suffix = posixpath.splitext(name)
        if suffix.lower() == ".parquet":
            if f"{stem}.tar" not in names and stem not in folders:
                found.append(name)
        elif suffix.lower() == ".arrow" and not _LEFT_OVER.fullmatch(name):
            found.append(name)
    return found


def _saved(root: Path, names: set[str]) -> dict[str, str]:
    """Return the Arrow files that ``datasets.save_to_disk`` lists, with their splits, if any.

    What else lies in such a folder, such as files of an earlier version, is no part of the set.
    """
    with_arrow = {posixpath.dirname(name) for name in names if name.endswith(".arrow")}
    folders = sorted(one for one in with_arrow if posixpath.join(one, "state.json") in names)
    is_dict = "dataset_dict.json" in names
    if is_dict:
        listed = _json(root / "dataset_dict.json").get("splits")
        folders = [str(one) for one in listed] if isinstance(listed, list) else []
    elif "" in folders:
        folders = [""]
    found: dict[str, str] = {}
    for folder in folders:
        state = posixpath.join(folder, "state.json")
        if state not in names:
            raise DataError(
                f"{root} lists the split {printable(folder)}, but has no {printable(state)}.",
                hint=_SAVE_AGAIN,
            )
        for entry in _entries(_json(root / state)):
            name = posixpath.normpath(posixpath.join(folder, entry))
            if name not in names:
                raise DataError(
                    f"{root / state} lists {printable(entry)}, which is not there.",
                    hint=_SAVE_AGAIN,
                )
            found[name] = folder if is_dict else ""
    return found


_SAVE_AGAIN = "copy it from where the set was saved, or save the set again with save_to_disk"


def _entries(state: dict[str, Any]) -> list[str]:
    files = state.get("_data_files")
    entries = files if isinstance(files, list) else []
    return [str(one["filename"]) for one in entries if isinstance(one, dict) and "filename" in one]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        raise DataError(
            f"{path} can't be read: {reason}.",
            hint="see that it is whole and may be read, or download it again",
        ) from error
    return value if isinstance(value, dict) else {}


def _lists(names: Iterable[str], *, is_alone: bool) -> list[str]:
    """Return the lists: any ``.jsonl`` at the top, and metadata next to media at any depth.

    A ``metadata.csv`` beside shards or tables tells of these.
    """
    found: list[str] = []
    folders: dict[str, str] = {}
    for name in sorted(names):
        folder, file = posixpath.split(name)
        stem, suffix = posixpath.splitext(file.lower())
        is_metadata = stem == "metadata" and suffix in LIST_SUFFIXES
        if is_metadata and (is_alone or suffix == ".jsonl"):
            other = folders.setdefault(folder, name)
            if other != name:
                raise DataError(
                    f"{printable(other)} and {printable(name)} list the same folder.",
                    hint="remove one of them, or give one as data.path",
                )
            found.append(name)
        elif suffix == ".jsonl" and not folder:
            found.append(name)
    return found
