"""What the commands share of the terminal: errors, logs, options."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, TextIO

import typer

from ddrl.errors import printable

__all__ = ["Verbose", "complain", "format_change", "say", "set_up_logging"]

_MAX_LOGGED = 4000  # characters of a line of the log


def say(line: object, *, err: bool = False) -> None:
    """Write one line, made printable: names and captions of strangers may stand in it."""
    typer.echo(printable(str(line)), err=err)


def complain(message: str, hint: str = "") -> None:
    """Write an error, and what to do about it, to stderr."""
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    say(message, err=True)
    if hint:
        typer.secho("hint: ", fg="cyan", err=True, nl=False)
        say(hint, err=True)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to whatever stderr is now: a progress bar takes its place while it is shown."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Formatter(logging.Formatter):
    """Plain sentences, each one line; what is out of the ordinary says so first.

    Lines of a traceback, and of other packages' messages, are indented: none can pass for ours.
    """

    def format(self, record: logging.LogRecord) -> str:
        if record.name.partition(".")[0] == "ddrl" and not record.exc_info:
            text = printable(record.getMessage(), limit=_MAX_LOGGED)
        else:
            lines = super().format(record).split("\n")
            text = "\n    ".join(printable(line, limit=_MAX_LOGGED) for line in lines)
        if record.levelno == logging.INFO:
            return text
        if record.levelno < logging.INFO:
            return f"{record.name}: {text}"
        return f"{record.levelname.lower()}: {text}"


def set_up_logging(*, verbose: bool = False) -> None:
    """Send ddrl's log to stderr, and other packages' warnings with it."""
    root, own = logging.getLogger(), logging.getLogger("ddrl")
    own.setLevel(logging.DEBUG if verbose else logging.INFO)
    if not any(isinstance(handler, _Handler) for handler in root.handlers):
        handler = _Handler()
        handler.setFormatter(_Formatter())
        root.addHandler(handler)


def _set_verbosity(verbose: bool) -> None:
    set_up_logging(verbose=verbose)


Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Log more.", callback=_set_verbosity, is_eager=True),
]
"""The option that every command takes."""


def format_change(share: float) -> str:
    """``+1.8 %``, and no minus before a zero."""
    return f"{round(100 * share, 1) + 0.0:+.1f} %"
