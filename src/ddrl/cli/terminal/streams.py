"""The standard streams of a command, which works on where one is closed, full or gone.

A stream that can't take what is written drops it: no write raises, so that a full disk or a closed
terminal ends no run. What was dropped of the results is looked at when the command has ended.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
import unicodedata
from typing import TextIO

_SPELLING = "ddrl.spelling"  # the name of the error handler
_SPELT = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212\u2500", "-"),
    **dict.fromkeys("\u2018\u2019", "'"),
    **dict.fromkeys("\u201c\u201d", '"'),
    "\u2192": "->",
    "\u2502": "|",
}


class PatientFile(io.FileIO):
    """An open file that takes every write; what it can't keep is dropped.

    Args:
        number: of the file's descriptor, which stays open.

    Attributes:
        failure: why the first of what was dropped was.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.failure: OSError | None = None

    def write(self, data: object, /) -> int:
        """Write what can be written now; the count that comes back is what needs no other try."""
        try:
            while (count := super().write(data)) is None:  # type: ignore[arg-type]
                # Another process has made the terminal or pipe non-blocking, and it is full.
                select.select([], [self], [])
            return count
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(data).nbytes  # type: ignore[arg-type]


def open_stream(number: int, like: TextIO | None) -> TextIO:
    """Return a text stream over a descriptor, of the encoding and buffering of another stream.

    Letters that the encoding does not have are spelt with others: an accent is left out, and a
    letter of another script becomes its escape.
    """
    return io.TextIOWrapper(
        io.BufferedWriter(PatientFile(number)),
        encoding=getattr(like, "encoding", None) or "utf-8",
        errors=_SPELLING,
        line_buffering=getattr(like, "line_buffering", True),
        write_through=getattr(like, "write_through", False),
    )


class _Results:
    """What of the results was lost.

    Attributes:
        output: the file below stdout, unless that is a caller's own.
        are_kept: they are in files, and stdout only says where.
    """

    output: PatientFile | None = None
    are_kept = False


def guard_streams() -> None:
    """Make the process's standard streams take every write; a caller's own are left alone."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file to be opened, a checkpoint, would take its place
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - it lives with the process
    if sys.stdout is sys.__stdout__:
        sys.stdout = open_stream(_number(sys.stdout), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = open_stream(_number(sys.stderr), sys.stderr)
    below = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    _Results.output = below if isinstance(below, PatientFile) else None
    if _Results.output is not None:
        _Results.output.failure = None
    _Results.are_kept = False


def results_are_kept() -> None:
    """Say that the command's results are in files: what stdout loses changes no exit code."""
    _Results.are_kept = True


def lost_results() -> OSError | None:
    """Return why results were lost on their way out, if they were and are nowhere else."""
    if _Results.output is None or _Results.are_kept:
        return None
    sys.stdout.flush()
    return _Results.output.failure


def _number(stream: TextIO | None) -> int:
    """Return the descriptor to write to; Python has no stream where it was closed at first."""
    return os.open(os.devnull, os.O_WRONLY) if stream is None else stream.fileno()


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Spell letters that the codec does not have; it calls this."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_spell_letter, error.object[error.start : error.end])), error.end


def _spell_letter(letter: str) -> str:
    parts = unicodedata.normalize("NFKD", letter)
    if all(part.isascii() or unicodedata.combining(part) for part in parts):
        return "".join(part for part in parts if part.isascii())
    return _SPELT.get(letter) or letter.encode("ascii", "backslashreplace").decode()


codecs.register_error(_SPELLING, _spell)
