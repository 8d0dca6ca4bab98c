"""Samples in a folder of media and caption files."""

from __future__ import annotations

import errno
import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path

from ddrl.data.captions import pair
from ddrl.data.locators import FileLocator, Locator
from ddrl.data.problems import Problem
from ddrl.data.samples import Sample
from ddrl.errors import printable

__all__ = ["find_in_folder"]


@dataclass
class _Walk:
    """A walk through a folder; each real folder is entered once.

    Links to folders are followed after all real folders, so that what is reached both ways keeps
    its real name, and a circle ends.
    """

    root: Path
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
            # Hidden files are the system's: .DS_Store, ._name.png, .ipynb_checkpoints.
            if not item.name.startswith("."):
                self._take(item, posixpath.join(name, item.name))

    def _take(self, item: os.DirEntry[str], name: str) -> None:
        try:
            is_folder = item.is_dir()
            item.stat()  # fails for a link to nothing, or in a circle
        except OSError as error:
            self._complain(name, error)
            return
        if not is_folder and not item.is_file():
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


def find_in_folder(root: Path) -> tuple[list[Sample], list[Problem]]:
    """Find the samples of a folder, in folders of any depth; ``a.png`` goes with ``a.txt``."""
    walk = _Walk(root)
    walk.walk()
    samples, problems = pair(walk.entries, key_of=lambda name: posixpath.splitext(name)[0])
    return samples, walk.problems + problems
