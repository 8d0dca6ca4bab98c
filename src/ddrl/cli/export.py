"""``ddrl export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddrl.cli.progress import make_reporter
from ddrl.cli.steps import StepOption, read_step
from ddrl.cli.streams import results_are_kept
from ddrl.cli.terminal import Verbose, say

__all__ = ["export"]


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Default: RUN/export.")
    ] = None,
    step: StepOption = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="The weights themselves, not their average.")
    ] = False,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Write a run's weights as diffusers loads them, with a model card.

    LoRA becomes a file for `load_lora_weights`, full weights a folder for `from_pretrained`. An
    earlier export in the folder is replaced.
    """
    from ddrl.builders.export import export_run

    with make_reporter() as reporter:
        folder = export_run(run, out, step=read_step(step), raw=raw, progress=reporter.made)
    results_are_kept()
    say(folder / "README.md")
