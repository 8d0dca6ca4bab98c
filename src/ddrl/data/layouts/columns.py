"""Which columns of tables, and keys of lists and records, hold captions and media."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ddrl.data.media.formats import MEDIA_SUFFIXES
from ddrl.data.problems import ProblemKind
from ddrl.errors import DataError, printable

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

_PATH_ENDS = ("", "_file_name", "_path", "_file")

SOURCES = tuple(
    f"{name}{end}"
    for name in (
        *("source", "source_image", "source_img", "src_img", "input_image", "original_image"),
        *("before", "conditioning_image", "control_image"),
    )
    for end in _PATH_ENDS
)
"""Names of the pictures that edits start from, and of paths to them."""

_RESULTS = tuple(
    f"{name}{end}"
    for name in (
        *("edited_image", "target_image", "target_img", "output_image", "edited", "target"),
        *("after", "result"),
    )
    for end in _PATH_ENDS
)
_INSTRUCTIONS = ("instruction", "edit_prompt", "edit_instruction")

MAX_SHOWN = 12  # columns that an error names


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that the user names; an empty name: one of the usual ones.

    Attributes:
        caption: of captions.
        media: of media.
        source: of the source images of edits.
        has_sources: whether the samples are edits: each has a source image, an instruction as its
            caption, and the result as its medium.
    """

    caption: str = ""
    media: str = ""
    source: str = ""
    has_sources: bool = False

    @property
    def captions(self) -> tuple[str, ...]:
        """Usual names of captions; those of edits have names of their own, too."""
        return (*self.instructions, *CAPTIONS)

    @property
    def instructions(self) -> tuple[str, ...]:
        """Usual names of captions that only edits have."""
        return _INSTRUCTIONS if self.has_sources else ()

    @property
    def results(self) -> tuple[str, ...]:
        """Usual names of media that only edits have."""
        return _RESULTS if self.has_sources else ()

    @property
    def given_name(self) -> str:
        """What an image is called that is given."""
        return "source image" if self.has_sources else "first frame"

    @property
    def missing_given(self) -> ProblemKind:
        """What is wrong where it is not there."""
        return "missing_source" if self.has_sources else "missing_first_frame"

    def of_caption(self, where: str, names: Iterable[str]) -> str:
        """Return the column of captions.

        Args:
            where: the table or list, for messages.
            names: of all its columns.

        Raises:
            DataError: there is none.
        """
        return _choose(where, list(names), self.caption, self.captions, "caption")

    def of_media(self, where: str, names: Iterable[str]) -> str:
        """Return the column of media, or of paths to them.

        Raises:
            DataError: there is none.
        """
        usual = (*self.results, *MEDIA, *PATHS)
        return _choose(where, list(names), self.media, usual, "media")

    def of_given(self, where: str, names: Iterable[str]) -> str:
        """Return the column of given images: sources of edits, or else first frames, if any.

        Raises:
            DataError: the samples are edits, and there is no column of sources.
        """
        if not self.has_sources:
            return find_column(names, FIRST_FRAMES)
        return _choose(where, list(names), self.source, SOURCES, "source")


def find_column(names: Iterable[str], wanted: Iterable[str]) -> str:
    """Return the first of the wanted names that is there, in any case, or an empty string."""
    known = {name.lower(): name for name in reversed(list(names))}
    return next((known[name] for name in wanted if name in known), "")


_KINDS = {"caption": "captions", "media": "media", "source": "source images"}


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
    if kind != "source" and usual in (CAPTIONS, (*MEDIA, *PATHS)) and find_column(names, SOURCES):
        edits = "; of edits, set data.source_images = 1 (`ddrl data check --source-column auto`)"
    else:
        edits = ""
    is_list_of_addresses = kind == "media" and find_column(names, ("url", "image_url", "video_url"))
    raise DataError(
        f"{where} has no column of {_KINDS[kind]} of a usual name, "
        f"such as {', '.join(usual[:3])}; it has {shown}{more}.",
        hint="these are addresses: download what is there, for example with img2dataset"
        if is_list_of_addresses
        else f"set data.{kind}_column to one of these, or `ddrl data check --{kind}-column`{edits}",
    )
