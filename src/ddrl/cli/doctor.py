"""``ddrl doctor``."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from ddrl.cli.terminal import Verbose, say, say_json

__all__ = ["doctor"]

FORMAT = "ddrl-doctor/1"


def doctor(
    cache: Annotated[
        Path, typer.Option("--cache", metavar="FOLDER", help="The recipes' run.cache.")
    ] = Path("runs/.cache"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Check this machine: versions, device, the mathematics, two training steps, the cache.

    Exits with 1 if a check fails.
    """
    from ddrl.cli.selfcheck import run_checks

    if not verbose:
        # Its own findings are the news; what the tiny runs log is not.
        logging.getLogger("ddrl").setLevel(logging.WARNING)
    results = run_checks(cache)
    failed = [result for result in results if not result.ok]
    if as_json:
        rows = [vars(result) for result in results]
        say_json(json.dumps({"format": FORMAT, "ok": not failed, "checks": rows}, indent=1))
    else:
        for result in results:
            mark, colour = ("ok      ", "green") if result.ok else ("FAILED  ", "red")
            say(f"{result.name}: {result.detail}", mark=mark, colour=colour)
            if result.hint:
                say(f"        hint: {result.hint}")
    if failed:
        raise typer.Exit(1)
