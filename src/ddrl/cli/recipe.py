"""``ddrl recipe``: the recipes that come with ddrl, and a copy of one to change."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ddrl.cli.terminal.output import Verbose, say, say_json, show_help
from ddrl.cli.terminal.streams import results_are_kept
from ddrl.cli.terminal.tables import print_table
from ddrl.errors import UsageError, printable

FORMAT = "ddrl-recipes/1"

recipe = typer.Typer(
    name="recipe",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@recipe.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """See which recipes come with ddrl, and copy one to change it."""
    if context.invoked_subcommand is None:
        show_help(context)


@recipe.command("list")
def list_recipes(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """List the recipes and comparisons that come with ddrl, and the hardware that each is for.

    `ddrl train NAME` and `ddrl compare NAME` take these names.
    """
    from ddrl.recipe.reading.shipped import shipped

    if as_json:
        rows = [{**asdict(one), "path": str(one.path), "command": one.command} for one in shipped()]
        say_json(json.dumps({"format": FORMAT, "recipes": rows}, indent=1))
        return
    lines = [(one.name, one.line, one.hardware) for one in shipped()]
    print_table(("name", "what it is", "hardware"), lines, left=(0, 1, 2))


@recipe.command()
def copy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of `ddrl recipe list`.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Default: NAME.toml in the working folder."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Write a recipe that comes with ddrl to a file of yours, and say what runs it."""
    from ddrl.disk import replace_file
    from ddrl.recipe.reading.shipped import find_shipped

    one = find_shipped(name)
    file = to or Path(f"{name.replace('/', '-')}.toml")
    if file.is_dir():
        file /= f"{name.replace('/', '-')}.toml"
    quoted = shlex.quote(str(file))
    if not force and (file.exists() or file.is_symlink()):
        raise UsageError(
            f"{file} is there already.", hint="name another file: --to FILE; or replace it: --force"
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, one.copy(quoted))
    except OSError as error:
        raise UsageError(
            f"{file} can't be written: {error.strerror}.", hint="name another file: --to FILE"
        ) from error
    results_are_kept()
    say(f"Written to {file}. Change it, then see what it amounts to and run it:")
    say(f"  ddrl {one.command} {printable(quoted)} --dry-run")
    say(f"  ddrl {one.command} {printable(quoted)}")
