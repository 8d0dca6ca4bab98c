"""Which columns of tables, and keys of lists and records, hold captions and media."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ddrl.data.formats import MEDIA_SUFFIXES
from ddrl.errors import DataError, printable

__all__ = ["CAPTIONS", "FIRST_FRAMES", "MEDIA", "PATHS", "Columns", "find_column"]

CAPTIONS = ("caption", "text", "prompt", "txt", "captions", "description", "json")
"""Names of captions; ``json`` is the record of a webdataset sample, which has one of the others."""

MEDIA = ("image", "video", "media", *(suffix[1:] for suffix in MEDIA_SUFFIXES), "img", "clip")
"""Names of media: bytes, structs of bytes and path, or paths."""

PATHS = (
    *("path", "file_name", "filename", "file_path", "filepath", "file"),
    *(f"{kind}_{end}" for kind in ("image", "video") for end in ("file_name", "path", "file")),
)
"""Names of paths to media, relative to the list."""

FIRST_FRAMES = ("first_frame", "first_frame_file_name")
"""Names of images that clips start from."""

MAX_SHOWN = 12  # columns that an error names


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that the user names; an empty name: one of the usual ones.

    Attributes:
        caption: of captions.
        media: of media.
    """

    caption: str = ""
    media: str = ""

    def of_caption(self, where: str, names: Iterable[str]) -> str:
        """The column of captions.

        Args:
            where: the table or list, for messages.
            names: of all its columns.

        Raises:
            DataError: there is none.
        """
        return _choose(where, list(names), self.caption, CAPTIONS, "caption")

    def of_media(self, where: str, names: Iterable[str]) -> str:
        """The column of media, or of paths to them.

        Raises:
            DataError: there is none.
        """
        return _choose(where, list(names), self.media, (*MEDIA, *PATHS), "media")


def find_column(names: Iterable[str], wanted: Iterable[str]) -> str:
    """The first of the wanted names that is there, in upper or lower case, or an empty string."""
    known = {name.lower(): name for name in reversed(list(names))}
    return next((known[name] for name in wanted if name in known), "")


def _choose(where: str, names: list[str], named: str, usual: tuple[str, ...], kind: str) -> str:
    shown = ", ".join(map(printable, names[:MAX_SHOWN]))
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    if named:
        if named in names:
            return named
        raise DataError(
            f"{where} has no column {named!r}; it has {shown}{more}.",
            hint="name one of these, or leave it out",
        )
    if found := find_column(names, usual):
        return found
    is_list_of_addresses = kind == "media" and find_column(names, ("url", "image_url", "video_url"))
    raise DataError(
        f"{where} has no column of {'captions' if kind == 'caption' else 'media'} of a usual name, "
        f"such as {', '.join(usual[:3])}; it has {shown}{more}.",
        hint="these are addresses: download what is there, for example with img2dataset"
        if is_list_of_addresses
        else f"set data.{kind}_column to one of these, or `ddrl data check --{kind}-column`",
    )
