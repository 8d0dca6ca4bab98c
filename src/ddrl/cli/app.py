"""The ``ddrl`` command: its subcommands, and what becomes of an error."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from ddrl.cli.compare import compare
from ddrl.cli.data.command import data
from ddrl.cli.doctor import doctor
from ddrl.cli.evaluate import evaluate
from ddrl.cli.explain import explain
from ddrl.cli.export import export
from ddrl.cli.recipe import recipe
from ddrl.cli.reward.command import reward
from ddrl.cli.sample import sample
from ddrl.cli.terminal.interrupts import Interrupted, Interrupts
from ddrl.cli.terminal.output import complain, say, set_up_logging, show_help
from ddrl.cli.terminal.streams import guard_streams, lost_results
from ddrl.cli.terminal.surroundings import check_surroundings, known_home
from ddrl.cli.train import train
from ddrl.cli.watch import watch
from ddrl.errors import DataError, DDRLError, UsageError, printable

# Wrong arguments. Typer carries its own copy of click, or used to depend on it: only this way to
# the class is right for both.
_WrongArguments: type[Exception] = typer.BadParameter.__bases__[0]

# What the system refuses whoever asks; a file that is not there is none of these.
_OF_THE_SYSTEM = frozenset(
    {errno.EACCES, errno.EDQUOT, errno.EIO, errno.ELOOP, errno.EMFILE, errno.ENAMETOOLONG}
    | {errno.ENFILE, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS, errno.ESTALE}
)

_BROKEN_PIPE = 141  # what a shell reports for a process that SIGPIPE has ended: nobody reads

app = typer.Typer(
    name="ddrl",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 bug, 2 usage or recipe, 3 data or weights, 4 reward, "
    "5 checkpoint, 6 the guard stopped the run.",
)
for command in (train, watch, sample, evaluate, compare, export, doctor, explain):
    app.command()(command)
app.add_typer(recipe)
app.add_typer(data)
app.add_typer(reward)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            say(f"ddrl {version('ddrl')}")
        except PackageNotFoundError:
            say("ddrl, not installed: run from its source")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Post-train diffusion and flow models with a reward, and without reward hacking."""
    if context.invoked_subcommand is None:
        show_help(context)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: instead of the process's own.
    """
    guard_streams()
    code = run(sys.argv[1:] if arguments is None else arguments)
    sys.exit(code or _account())


def _account() -> int:
    """Return the exit code of a command that has done its work: did its results come through?"""
    failure = lost_results()
    if failure is None:
        return 0
    if failure.errno == errno.EPIPE:
        return _BROKEN_PIPE
    complain(
        f"The results can't be written to the standard output: {failure.strerror}.",
        "free some space, or send them elsewhere, and run the command again",
    )
    return UsageError.exit_code


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    Returns:
        The exit code.
    """
    set_up_logging()
    from ddrl.named_code import failed_in, look_in

    look_in()  # a command that may run code of the working folder says so itself
    try:
        with Interrupts(), known_home():  # a signal lets files half written be removed
            check_surroundings(arguments)
            return _invoke(list(arguments))
    except DDRLError as error:
        complain(error.message, error.hint)
        return error.exit_code
    except _WrongArguments as error:
        context = getattr(error, "ctx", None)
        message = getattr(error, "format_message", error.__str__)()
        where = context.command_path if context is not None else "ddrl"
        complain(message, f"see `{where} --help`")
        return UsageError.exit_code
    except Interrupted as stop:
        for line in str(stop).split("\n"):
            say(line, err=True)
        return stop.exit_code
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except Exception as error:
        if isinstance(error, OSError) and error.filename and error.errno in _OF_THE_SYSTEM:
            complain(
                f"{printable(str(error.filename), limit=300)} can't be used: {error.strerror}.",
                "check the path, its permissions and the free space",
            )
            return DataError.exit_code
        for line in traceback.format_exc().rstrip("\n").split("\n"):
            say(line, err=True)
        reason = " ".join(str(error).split())
        if place := failed_in(error):
            complain(
                f"Code that the recipe names failed: {type(error).__name__}: {reason} ({place}).",
                "put it right there; the traceback above says how it was called",
            )
            return UsageError.exit_code
        complain(
            f"sorry, ddrl met something it does not expect: {type(error).__name__}: {reason}",
            "please report it with the traceback above and the output of `ddrl doctor`",
        )
        return DDRLError.exit_code


def _invoke(arguments: list[str]) -> int:
    """Run the command without Typer's own treatment of errors."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("ddrl", arguments) as context:
            command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    return 0
