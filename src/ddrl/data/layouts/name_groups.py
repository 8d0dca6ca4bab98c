"""Groups the files of a folder or a shard by the name that they share."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ddrl.data.layouts.columns import SOURCES, Columns
from ddrl.data.locators import Locator
from ddrl.data.media.formats import MEDIA_SUFFIXES, suffix_of


@dataclass
class NameGroup:
    """The files of one name: their paths relative to the data set, or within the shard.

    Attributes:
        media: pictures and clips.
        source: source images of edits.
        text: captions.
        record: captions, and what else is known of the medium, as JSON.
        other: files of other kinds.
    """

    media: list[str] = field(default_factory=list)
    source: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    record: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


def group_by_name(
    entries: Mapping[str, Locator], key_of: Callable[[str], str], columns: Columns
) -> dict[str, NameGroup]:
    """Put files that share a name together.

    Args:
        entries: every file by its path.
        key_of: the part of a path that a medium and its caption share.
        columns: the ends of the names of media and of source images.
    """
    groups: dict[str, NameGroup] = {}
    for name in sorted(entries):
        suffix = suffix_of(name)
        shared = _of_source(name, columns) if suffix in MEDIA_SUFFIXES else ""
        group = groups.setdefault(normal(key_of(shared or name)), NameGroup())
        if shared:
            group.source.append(name)
        elif suffix in MEDIA_SUFFIXES and name.lower().endswith(columns.media.lower()):
            group.media.append(name)
        else:
            kinds = {".txt": group.text, ".caption": group.text, ".json": group.record}
            kinds.get(suffix, group.other).append(name)
    for group in groups.values():  # a text of kohya's default suffix gives way to a .txt
        group.text = [n for n in group.text if suffix_of(n) == ".txt"] or group.text
    return groups


def _of_source(name: str, columns: Columns) -> str:
    """Return the name that a source image shares: a.png of a.source.png; empty where it is none."""
    stem, suffix = posixpath.splitext(name)
    named = columns.source.lower()
    if named and name.lower().endswith(named):
        return name[: -len(named)].rstrip(".") + suffix
    rest, dot, kind = stem.rpartition(".")
    usual = columns.has_sources and not named and dot and kind.lower() in SOURCES
    return rest + suffix if usual else ""


def normal(name: str) -> str:
    """Return a name in the one form (NFC) in which equal names are equal."""
    return unicodedata.normalize("NFC", name)
