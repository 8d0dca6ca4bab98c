"""Where the files of a data set may lie: no link or path of a stranger's reads other files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ddrl.data.problems import NUM_NAMED, Problem

Outside = Literal["refuse", "allow"]
"""What becomes of files that links, ``..`` or absolute paths find outside of the data set."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The folders that the files of a data set lie in.

    Attributes:
        folders: without links in their paths.
        outside: what becomes of other files.
        noted: those that were allowed so far, by name.
        parents: folders that were asked for, and where they really are.
    """

    folders: tuple[str, ...]
    outside: Outside
    noted: list[str] = field(default_factory=list, compare=False)
    parents: dict[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, root: Path, outside: Outside) -> Bounds:
        """Return the bounds of a data set.

        A snapshot in the cache of the hub is a folder of links to the blobs beside it, so these
        are within: ``.../snapshots/<revision>`` and ``.../blobs``.

        Args:
            root: its folder, or a file in it; it was named by the user, and may be a link.
            outside: what becomes of files elsewhere.
        """
        folder = Path(os.path.realpath(root if root.is_dir() else root.parent))
        found = [str(folder)]
        for snapshots in (above for above in folder.parents if above.name == "snapshots"):
            blobs = snapshots.parent / "blobs"
            if blobs.is_dir() and not blobs.is_symlink():
                found.append(str(blobs))
        return cls(tuple(found), outside)

    def beyond(self, path: Path) -> str:
        """Return where a file or folder really is, if that is not within; else an empty string."""
        parent, name = os.path.split(path)
        if parent not in self.parents:
            self.parents[parent] = os.path.realpath(parent)
        real = os.path.join(self.parents[parent], name)
        if os.path.islink(path) or name in {"", ".", ".."}:
            real = os.path.realpath(path)
        inside = any(real == one or real.startswith(f"{one.rstrip('/')}/") for one in self.folders)
        return "" if inside else real

    def refusal(self, name: str, path: Path) -> Problem | None:
        """Return what is wrong with a file or folder that is not within; note it if it is allowed.

        Args:
            name: of what names it, relative to the data set.
            path: to it.
        """
        real = self.beyond(path)
        if not real:
            return None
        if self.outside == "refuse":
            return Problem(name, "outside", f"leads out of the data set, to {real}")
        self.noted.append(name)
        return None

    def notes(self) -> list[Problem]:
        """One note for all that was allowed."""
        if not self.noted:
            return []
        named, more = ", ".join(self.noted[:NUM_NAMED]), len(self.noted) - NUM_NAMED
        count = f"{len(self.noted)} {'entry leads' if len(self.noted) == 1 else 'entries lead'}"
        message = f"{count} out of the data set, as it is allowed: {named}"
        return [Problem(".", "outside_allowed", message + (f" and {more} more" * (more > 0)))]
