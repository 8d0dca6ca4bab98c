"""``ddrl export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ddrl.cli.overrides import AllowCode, ModelOption, OverridesArgument, with_model
from ddrl.cli.progress import make_reporter
from ddrl.cli.steps import RawOption, StepOption, read_step
from ddrl.cli.streams import results_are_kept
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
    format: Annotated[
        Literal["diffusers", "comfyui", "kohya"],
        typer.Option("--format", help="Keys of an adapter; all of strength 1 as it was trained."),
    ] = "diffusers",
    merged: Annotated[
        bool, typer.Option("--merged", help="Merge an adapter and write the whole pipeline.")
    ] = False,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(
            "--dtype",
            help="Of what was trained; default: float32 of an adapter, of whole weights the "
            "type of the base's files.",
        ),
    ] = None,
    model: ModelOption = None,
    allow_code: AllowCode = False,  # noqa: ARG001 - its callback does the work
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Write a run's weights for other tools, with a model card.

    LoRA becomes a file for `load_lora_weights`, for ComfyUI or for kohya's scripts, full weights a
    folder for `from_pretrained`. An earlier export in the folder is replaced.
    """
    from ddrl.builders.export import ExportForm, export_run

    form = ExportForm(format, dtype, merged)
    with make_reporter() as reporter:
        folder = export_run(
            run,
            out,
            step=read_step(step),
            raw=raw,
            form=form,
            overrides=with_model(overrides, model),
            progress=reporter.made,
        )
    results_are_kept()
    say(folder / "README.md")
