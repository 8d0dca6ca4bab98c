"""``ddrl watch``."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from ddrl.cli.terminal.interrupts import Interrupted
from ddrl.cli.terminal.output import Verbose, say
from ddrl.runs.lock import is_held

_SHARE = 10  # seconds of waiting for each that reading and drawing took


def watch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=1, help="How often to look.")
    ] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Write the page once, and end.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Instead of the run's folder.")
    ] = None,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Write a page of how a run goes, watch.html, and keep it fresh until the run ends, or Ctrl-C.

    It needs no server: open the file, which loads itself again. The run is only read.
    """
    from ddrl.evaluation.pages.publish import publish
    from ddrl.evaluation.pages.watch_page import render_watch
    from ddrl.runs.folder import RunFolder
    from ddrl.runs.watching import watch_run

    found = None
    try:
        while True:
            start, is_first = time.monotonic(), found is None
            found = watch_run(run, is_held=is_held(RunFolder(run).lock))
            goes_on = found.state == "running" and not once
            html = render_watch(found, every=every if goes_on else 0.0)
            (page,) = publish("page", out or run, {"watch.html": html})
            if is_first:
                say(page)
            if not goes_on:
                break
            with suppress(OSError):
                os.nice(max(0, 10 - os.nice(0)))  # training goes first
            # A long run takes longer to read, so that it is read less often.
            time.sleep(max(every, _SHARE * (time.monotonic() - start)))
    except Interrupted as stop:
        if stop.exit_code != 128 + signal.SIGINT:  # Ctrl-C is how to end it
            raise
    if found is not None and not once:
        say(f"{found.name}: {found.state}, step {found.step} of {found.total}", err=True)
