"""``ddrl reward``: which rewards there are, what is known about them, an audit, and a server."""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from ddrl.cli.reward.audit import audit
from ddrl.cli.reward.serve import serve
from ddrl.cli.terminal.output import Verbose, say, say_json, show_help

if TYPE_CHECKING:
    from ddrl.rewards.catalog import Entry

FORMAT = "ddrl-rewards/1"

reward = typer.Typer(
    name="reward",
    context_settings={"help_option_names": ["-h", "--help"]},
)
reward.command()(audit)
reward.command()(serve)


@reward.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """See which rewards there are, audit one, and serve some."""
    if context.invoked_subcommand is None:
        show_help(context)


@reward.command("list")
def list_rewards(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """List the rewards with their cards, and what each still needs on this machine.

    Also those of installed packages, by the entry point ddrl.rewards.
    """
    from ddrl.rewards.catalog import catalog

    entries = list(catalog())
    if as_json:
        rows = [entry.as_json() for entry in entries]
        say_json(json.dumps({"format": FORMAT, "rewards": rows}, indent=1))
        return
    width = max(min(shutil.get_terminal_size((100, 24)).columns, 100), 20)
    for number, entry in enumerate(entries):
        _show(entry, width, first=number == 0)


def _show(entry: Entry, width: int, *, first: bool) -> None:
    if not first:
        say()
    state = "green" if entry.state == "ready" else "yellow"
    say(f"  {entry.state}", mark=entry.name, colour=state, bold=True)
    lacks = (("lacks", entry.todo),) if entry.todo else ()
    for label, text in lacks + (entry.card.rows() if entry.card else ()):
        lines = textwrap.wrap(
            f"{label}: {_plain(text)}",
            width=width,
            initial_indent="  ",
            subsequent_indent="      ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines:
            say(line)


def _plain(text: str) -> str:
    """Without the marks of Markdown."""
    return text.replace("`", "")
