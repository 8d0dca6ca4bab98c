"""``ddrl export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ddrl.cli.terminal.output import Verbose, say
from ddrl.cli.terminal.overrides import AllowCode, ModelOption, OverridesArgument, with_model
from ddrl.cli.terminal.progress import make_reporter
from ddrl.cli.terminal.steps import RawOption, StepOption, read_step
from ddrl.cli.terminal.streams import results_are_kept
from ddrl.errors import UsageError

OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Default: RUN/export.")
]
FormatOption = Annotated[
    Literal["diffusers", "comfyui", "kohya"],
    typer.Option("--format", help="Keys of an adapter; all of strength 1 as it was trained."),
]
MergedOption = Annotated[
    bool, typer.Option("--merged", help="Merge an adapter and write the whole pipeline.")
]
TypeOption = Annotated[
    Literal["float32", "bfloat16", "float16"] | None,
    typer.Option(
        "--dtype",
        help="Of what was trained; default: float32 of an adapter, of whole weights the type of "
        "the base's files.",
    ),
]
PushOption = Annotated[
    str | None,
    typer.Option(
        "--push",
        metavar="OWNER/NAME",
        help="Upload it to this repository of the Hugging Face hub, made private if missing.",
    ),
]
PublicOption = Annotated[
    bool, typer.Option("--public", help="With --push: everyone may read the repository.")
]


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    overrides: OverridesArgument = None,
    out: OutOption = None,
    step: StepOption = None,
    raw: RawOption = False,
    format: FormatOption = "diffusers",
    merged: MergedOption = False,
    dtype: TypeOption = None,
    push: PushOption = None,
    public: PublicOption = False,
    model: ModelOption = None,
    allow_code: AllowCode = False,  # noqa: ARG001 - its callback does the work
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Write a run's weights for other tools, with a model card.

    LoRA becomes a file for `load_lora_weights`, for ComfyUI or for kohya's scripts, full weights a
    folder for `from_pretrained`. An earlier export in the folder is replaced. Nothing leaves this
    machine without --push.
    """
    from ddrl.runs.export import ExportForm, export_run
    from ddrl.runs.push import find_repository, push_export

    if public and push is None:
        raise UsageError(
            "--public is for --push, and nothing is uploaded without it.",
            hint="add --push OWNER/NAME, or leave --public out",
        )
    # What the hub refuses is known before weights are read.
    repository = None if push is None else find_repository(push, public=public)
    form = ExportForm(format, dtype, merged)
    with make_reporter() as reporter:
        folder = export_run(
            run,
            out,
            step=read_step(step),
            raw=raw,
            form=form,
            hub_id=push or "",
            overrides=with_model(overrides, model),
            progress=reporter.made,
        )
    address = None if repository is None else push_export(folder, repository)
    results_are_kept()
    say(folder / "README.md")
    if address is not None:
        say(address)
