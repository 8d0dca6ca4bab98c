"""Every error that ddrl raises on purpose, with the exit code of the command line.

DDRLError                      1   a fault of ddrl itself if it reaches the user bare
├── UsageError                 2   a wrong argument, option or command
│   └── RecipeError            2   a recipe that can't be run: file, line and key are named
├── DataError                  3   a data set, prompt or media file
│   └── WeightsError           3   model weights: missing, foreign or broken
├── RewardError                4   a reward that failed, or can't be loaded
├── CheckpointError            5   a checkpoint: unreadable, foreign, or not writable
└── GuardStop                  6   the run was stopped because it went wrong
    └── ReplayMismatch         6   the update does not see the rollout's log-probabilities

Each carries one sentence and, where there is one, a hint: what to do next. File names, captions
and what servers say are strangers' text: :func:`printable` makes it safe to show.
"""

from __future__ import annotations

import re
from typing import ClassVar

__all__ = [
    "CheckpointError",
    "DDRLError",
    "DataError",
    "GuardStop",
    "RecipeError",
    "ReplayMismatch",
    "RewardError",
    "UsageError",
    "WeightsError",
    "printable",
]

# Characters of an error's two texts that are shown: what a stranger said may be without end.
MAX_MESSAGE = 4000
MAX_HINT = 2000

# What moves the cursor, colours, begins a line, turns the direction of writing, or can't be seen:
# C0, C1 and DEL; marks, embeddings and isolates of direction; separators; invisible characters
# but the two joiners, which scripts and emoji need; lone surrogates, which can't be encoded.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_UNSAFE_IN_LINES = re.compile(rf"(?![\n\t]){_UNSAFE.pattern}")
_SHORT = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def printable(text: str, *, limit: int | None = None, lines: bool = False) -> str:
    r"""Text of a stranger as one line that a terminal only shows.

    What could do something else becomes an escape, as ``\x1b``, ``\n`` or ``\u202e``; a byte of a
    file name that is not UTF-8 becomes its own, as ``\xff``. Safe text comes back as it is, so
    doing it twice does no harm.

    Args:
        text: a file name, a caption, what a server or a library said.
        limit: characters that may come back; what is longer ends in "...".
        lines: line feeds and tabs stay, as on a page.
    """
    unsafe = _UNSAFE_IN_LINES if lines else _UNSAFE
    if limit is None:
        return unsafe.sub(_escape, text)
    shown = unsafe.sub(_escape, text[: limit + 1])
    return shown if len(shown) <= limit else shown[: max(0, limit - 3)] + "..."


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a file name that is not UTF-8
        code -= 0xDC00
    if code < 0x100:
        return _SHORT.get(found[0], f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class DDRLError(Exception):
    """The root of the tree.

    Both texts are made printable, so that what they quote stays within its line.

    Args:
        message: one sentence that names the file, line, option or sample at fault.
        hint: what the user can do about it, or an empty string; a long one is cut.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = printable(message, limit=MAX_MESSAGE)
        self.hint = printable(hint, limit=MAX_HINT)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(DDRLError):
    """A wrong argument, option or command."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that can't be run."""


class DataError(DDRLError):
    """A data set, prompt or media file that can't be used."""

    exit_code = 3


class WeightsError(DataError):
    """Model weights that are missing, foreign or broken."""


class RewardError(DDRLError):
    """A reward that failed or can't be loaded."""

    exit_code = 4


class CheckpointError(DDRLError):
    """A checkpoint that can't be read, written, or used for this run."""

    exit_code = 5


class GuardStop(DDRLError):  # noqa: N818 - stopping is its purpose, not an accident
    """The run was stopped because it went wrong; the checkpoints from before are kept."""

    exit_code = 6


class ReplayMismatch(GuardStop):
    """The update's log-probabilities differ from the rollout's on untouched weights."""
