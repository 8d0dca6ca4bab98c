"""What can be wrong with a data set, file by file, and what is done about it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ddrl.errors import DataError, printable

logger = logging.getLogger(__name__)

ProblemKind = Literal[
    "animation",
    "bad_caption",
    "bad_line",
    "broken",
    "broken_shard",
    "caption_encoding",
    "colour_profile",
    "cut_start",
    "decoder_warning",
    "duplicate_folder",
    "duplicate_name",
    "empty_caption",
    "empty_file",
    "missing_caption",
    "missing_first_frame",
    "missing_media",
    "missing_source",
    "no_bucket",
    "not_downloaded",
    "other_captions",
    "other_format",
    "other_splits",
    "outside",
    "outside_allowed",
    "repeated_frames",
    "repeats",
    "symlink_loop",
    "tone_mapped",
    "too_large",
    "too_short",
    "unknown_colour",
    "unreadable",
    "wrong_extension",
]

# What is only worth knowing: the sample is used all the same, or was never meant to be.
NOTES = frozenset(
    {
        "animation",
        "colour_profile",
        "cut_start",
        "decoder_warning",
        "not_downloaded",
        "other_captions",
        "other_format",
        "other_splits",
        "outside_allowed",
        "repeated_frames",
        "repeats",
        "tone_mapped",
    }
)

OnBroken = Literal["skip", "stop"]
"""``skip``: what is broken is left out and logged by name. ``stop``: it is an error."""

OUTSIDE_HINT = 'set data.outside = "allow" in the recipe if you trust what lies there'
MAX_MESSAGE = 1000  # characters of what is said about a file
NUM_NAMED = 3  # files that an error names before it says how many more there are


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or worth knowing.

    Both texts are made printable: a file's name, or what a file says, never makes a second line.

    Attributes:
        path: the file, relative to the data set; within a shard ``shard.tar/member``, within a
            list ``list.jsonl:line``.
        kind: what sort of thing it is.
        message: what is wrong, to follow the path: "a.png: <message>".

    Example:
        ``Problem("cats/a.png", "missing_caption", "has no a.txt or a.json beside it")``
    """

    path: str
    kind: ProblemKind
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", printable(self.path))
        object.__setattr__(self, "message", printable(self.message, limit=MAX_MESSAGE))

    @property
    def is_note(self) -> bool:
        """Whether nothing is lost by it: a sample is used all the same, or was not to be."""
        return self.kind in NOTES

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class BrokenFileError(DataError):
    """A media file that can't be used.

    Args:
        path: the file.
        kind: what sort of fault it is.
        message: what is wrong, to follow the path.
        hint: what to do about it.
    """

    def __init__(self, path: str, kind: ProblemKind, message: str, *, hint: str = "") -> None:
        self.problem = Problem(path, kind, message)
        super().__init__(f"{self.problem}.", hint=hint)


def no_memory(path: str) -> BrokenFileError:
    """Return the fault of a file that takes more memory than there is."""
    message = "takes more memory than there is"
    return BrokenFileError(path, "too_large", message, hint="scale it down")


def settle(problems: Sequence[Problem], *, on_broken: OnBroken, where: str) -> None:
    """Log what is skipped, every file by name, or stop.

    Args:
        problems: what was found; notes are logged and never stop anything.
        on_broken: the policy.
        where: the data set, for the message.

    Raises:
        DataError: something is broken and the policy is to stop; names the first three.
    """
    for problem in problems:
        if problem.is_note:
            logger.info("%s", problem)
    broken = [problem for problem in problems if not problem.is_note]
    if broken and on_broken == "stop":
        named = "; ".join(map(str, broken[:NUM_NAMED]))
        more = len(broken) - NUM_NAMED
        raise DataError(
            f"{where} has {len(broken)} broken {'entry' if len(broken) == 1 else 'entries'}: "
            f"{named}{f'; and {more} more' if more > 0 else ''}.",
            hint=OUTSIDE_HINT
            if any(problem.kind == "outside" for problem in broken)
            else '`ddrl data check` lists all; mend them, or set data.on_broken = "skip"',
        )
    for problem in broken:
        logger.warning("skipped %s", problem)
