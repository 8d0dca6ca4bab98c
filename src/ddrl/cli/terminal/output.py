"""What the commands share of the terminal: results, errors, logs, options."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, TextIO

import typer

from ddrl.errors import printable

RECIPE_HELP = "A TOML file, or a name of `ddrl recipe list`."
_MAX_LOGGED = 4000  # characters of a line of the log


def say(
    line: object = "", *, err: bool = False, mark: str = "", colour: str = "", bold: bool = False
) -> None:
    """Write one line, made printable: names and captions of strangers may stand in it.

    Args:
        line: what to say.
        err: whether to stderr.
        mark: a word before it, which a terminal shows in a colour.
        colour: of the mark.
        bold: whether the mark is.
    """
    stream = sys.stderr if err else sys.stdout
    if mark and stream.isatty():
        mark = typer.style(mark, fg=colour or None, bold=bold or None)
    # Not typer.echo: where the encoding is ASCII, it writes UTF-8 all the same.
    stream.write(f"{mark}{printable(str(line))}\n")
    stream.flush()


def say_json(text: str) -> None:
    """Write JSON.

    What could act on a terminal or is no letter of the output's encoding becomes an escape of JSON.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"

    def spell(one: str) -> str:
        try:
            one.encode(encoding)
        except UnicodeEncodeError:
            return json.dumps(one)[1:-1]
        return one if printable(one) == one else json.dumps(one)[1:-1]

    lines = ("".join(map(spell, line)) for line in text.rstrip("\n").split("\n"))
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def show_help(context: typer.Context) -> None:
    """Write the help of a command."""
    for line in context.get_help().rstrip("\n").split("\n"):
        say(line)


def counter(what: str) -> Callable[[int, int], None] | None:
    """What counts on one line of stderr, where that is a terminal.

    Args:
        what: is done to what is counted, as "read".
    """
    if not sys.stderr.isatty():
        return None

    def count(done: int, total: int) -> None:
        sys.stderr.write(f"\r{what} {done} of {total}" + ("\n" if done == total else ""))
        sys.stderr.flush()

    return count


def shout(line: str) -> None:
    """Write one line to stderr from a signal handler.

    The interrupted code may hold the lock of a buffered stream; this goes around it.
    """
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())


def complain(message: str, hint: str = "") -> None:
    """Write an error, and what to do about it, to stderr."""
    say(message, err=True, mark="error: ", colour="red", bold=True)
    if hint:
        say(hint, err=True, mark="hint: ", colour="cyan")


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
