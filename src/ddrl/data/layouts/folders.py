"""Samples in a folder of media and caption files."""

from __future__ import annotations

import errno
import os
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ddrl.data.layouts.bounds import Bounds
from ddrl.data.layouts.captions import pair
from ddrl.data.layouts.columns import Columns
from ddrl.data.layouts.listing import is_clutter
from ddrl.data.locators import FileLocator, Locator
from ddrl.data.media.formats import MEDIA_SUFFIXES, suffix_of
from ddrl.data.problems import NUM_NAMED, Problem
from ddrl.data.samples import Sample
from ddrl.data.splits import Splits, split_of
from ddrl.errors import printable

_REPEATED = re.compile(r"(\d+)_.+")
"""A folder of kohya's training scripts: repeats, and what is shown."""


@dataclass
class _Walk:
    """A walk through a folder; each real folder is entered once.

    Links to folders are followed after all real folders, so that what is reached both ways keeps
    its real name, and a circle ends.
    """

    root: Path
    bounds: Bounds
    entries: dict[str, Locator] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    seen: dict[tuple[int, int], str] = field(default_factory=dict)

    def walk(self) -> None:
        self._enter("")
        while self.links:
            self.links.sort()
            self._enter(self.links.pop(0), is_link=True)

    def _enter(self, name: str, *, is_link: bool = False) -> None:
        folder = self.root / name
        try:
            status = folder.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in self.seen:
                self._visited(name, self.seen[identity], is_link=is_link)
                return
            self.seen[identity] = name
            with os.scandir(folder) as items:
                found = sorted(items, key=lambda item: item.name)
        except OSError as error:
            self._complain(name or ".", error)
            return
        for item in found:
            if not is_clutter(item.name):
                self._take(item, posixpath.join(name, item.name))

    def _take(self, item: os.DirEntry[str], name: str) -> None:
        try:
            is_folder = item.is_dir()
            item.stat()  # fails for a link to nothing, or in a circle
        except OSError as error:
            self._complain(name, error)
            return
        if item.is_symlink() and (refusal := self.bounds.refusal(name, Path(item.path))):
            self.problems.append(refusal)
        elif not is_folder and not item.is_file():
            self.problems.append(Problem(name, "unreadable", "is no plain file"))
        elif not is_folder:
            self.entries[name] = FileLocator(Path(item.path))
        elif item.is_symlink():
            self.links.append(name)
        else:
            self._enter(name)

    def _visited(self, name: str, other: str, *, is_link: bool) -> None:
        is_above = not other or name == other or name.startswith(f"{other}/")
        where = printable(other) or "the data set itself"
        if is_link and is_above:
            message = f"is a link that leads in a circle, to {where}; it was not followed"
            self.problems.append(Problem(name, "symlink_loop", message))
        else:
            message = f"is the folder {where} again; it was read once"
            self.problems.append(Problem(name, "duplicate_folder", message))

    def _complain(self, name: str, error: OSError) -> None:
        if error.errno == errno.ELOOP:
            message = "is a link that leads in a circle"
            self.problems.append(Problem(name, "symlink_loop", message))
            return
        is_dangling = error.errno == errno.ENOENT and (self.root / name).is_symlink()
        reason = "is a link to nothing" if is_dangling else f"can't be read: {error.strerror}"
        self.problems.append(Problem(name, "unreadable", reason))


def find_in_folder(
    root: Path, bounds: Bounds, splits: Splits, columns: Columns
) -> tuple[list[Sample], list[Problem]]:
    """Find the samples of a folder, in folders of any depth; ``a.png`` goes with ``a.txt``.

    Raises:
        DataError: there is no such split.
    """
    walk = _Walk(root, bounds)
    walk.walk()
    media = [name for name in walk.entries if suffix_of(name) in MEDIA_SUFFIXES]
    found = {split_of(name) for name in media}
    kept = splits.choose((split_of(name) for name in media), unit="file", may_be_subject=True)
    left = found - kept
    entries = {name: one for name, one in walk.entries.items() if split_of(name) not in left}
    samples, problems = pair(
        entries,
        key_of=lambda name: posixpath.splitext(name)[0],
        columns=columns,
        frames=walk.entries,
    )
    walked = [one for one in walk.problems if split_of(f"{one.path}/") not in left]
    return samples, walked + problems + _repeats(entries)


def _repeats(names: Iterable[str]) -> list[Problem]:
    """Return a note on folders of kohya's scripts that would be repeated unequally."""
    folders = {posixpath.basename(posixpath.dirname(name)) for name in names}
    repeats = {name: match[1] for name in folders if (match := _REPEATED.fullmatch(name))}
    if len(set(repeats.values())) < 2:
        return []
    named = ", ".join(sorted(repeats)[:NUM_NAMED])
    message = f"the numbers of {named} are no repeats here: every sample counts once"
    return [Problem(".", "repeats", message)]
