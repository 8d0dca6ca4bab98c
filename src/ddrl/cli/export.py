"""``ddrl export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddrl.cli.overrides import ModelOption, OverridesArgument, with_model
from ddrl.cli.progress import make_reporter
from ddrl.cli.steps import RawOption, StepOption, read_step
from ddrl.cli.terminal import Verbose, say

__all__ = ["export"]


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    overrides: OverridesArgument = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Default: RUN/export.")
    ] = None,
    step: StepOption = None,
    raw: RawOption = False,
    model: ModelOption = None,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Write a run's weights as diffusers loads them, with a model card.

    LoRA becomes a file for `load_lora_weights`, full weights a folder for `from_pretrained`. An
    earlier export in the folder is replaced.
    """
    from ddrl.builders.export import export_run

    with make_reporter() as reporter:
        folder = export_run(
            run,
            out,
            step=read_step(step),
            raw=raw,
            overrides=with_model(overrides, model),
            progress=reporter.made,
        )
    say(folder / "README.md")
