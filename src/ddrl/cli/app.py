"""The ``ddrl`` command: its subcommands, and what becomes of an error."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from ddrl.cli.compare import compare
from ddrl.cli.data import data
from ddrl.cli.doctor import doctor
from ddrl.cli.evaluate import evaluate
from ddrl.cli.export import export
from ddrl.cli.interrupts import Interrupted
from ddrl.cli.reward import reward
from ddrl.cli.sample import sample
from ddrl.cli.terminal import complain, say, set_up_logging
from ddrl.cli.train import train
from ddrl.cli.watch import watch
from ddrl.errors import DDRLError

__all__ = ["app", "main"]

# Wrong arguments. Typer carries its own copy of click, or used to depend on it: only this way to
# the class is right for both.
_WrongArguments: type[Exception] = typer.BadParameter.__bases__[0]

_BROKEN_PIPE = 141  # what a shell reports for a process that SIGPIPE has ended

app = typer.Typer(
    name="ddrl",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 bug, 2 usage or recipe, 3 data or weights, 4 reward, "
    "5 checkpoint, 6 the guard stopped the run.",
)
for command in (train, watch, sample, evaluate, compare, export, doctor):
    app.command()(command)
app.add_typer(data)
app.add_typer(reward)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"ddrl {version('ddrl')}")
        except PackageNotFoundError:
            typer.echo("ddrl, not installed: run from its source")
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
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: instead of the process's own.
    """
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    Returns:
        The exit code.
    """
    set_up_logging()
    from ddrl.rewards.code import look_in

    look_in()  # a command that may run code of the working folder says so itself
    try:
        code = _invoke(list(arguments))
        sys.stdout.flush()
        return code
    except DDRLError as error:
        complain(error.message, error.hint)
        return error.exit_code
    except _WrongArguments as error:
        context = getattr(error, "ctx", None)
        message = getattr(error, "format_message", error.__str__)()
        where = context.command_path if context is not None else "ddrl"
        complain(message, f"see `{where} --help`")
        return DDRLError.exit_code + 1
    except Interrupted as stop:
        for line in str(stop).split("\n"):
            say(line, err=True)
        return stop.exit_code
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except BrokenPipeError:
        # Nobody reads the rest. Python flushes stdout once more at exit, so it needs a place to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _BROKEN_PIPE
    except Exception as error:
        for line in traceback.format_exc().rstrip("\n").split("\n"):
            say(line, err=True)
        reason = " ".join(str(error).split())
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
