"""``ddrl sample``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddrl.cli.progress import make_reporter
from ddrl.cli.terminal import Verbose
from ddrl.errors import UsageError

if TYPE_CHECKING:
    from ddrl.builders.runs import Weights

__all__ = ["sample"]


MAX_PROMPTS = 16  # of the data's own, where none is asked for


def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", metavar="TEXT", help="May be given again; default: every prompt."),
    ] = None,
    num: Annotated[int, typer.Option("--num", min=1, help="Samples per prompt.")] = 4,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Default: the run's evaluation.seed.")
    ] = None,
    step: Annotated[
        int | None, typer.Option("--step", min=0, help="Which checkpoint; default: the newest.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="The weights themselves, not their average.")
    ] = False,
    base: Annotated[bool, typer.Option("--base", help="The model before post-training.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Default: RUN/samples.")
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(
            "--scale",
            min=1,
            max=64,
            help="Screen pixels per pixel, each way; default: 8 for the digits, else 1.",
        ),
    ] = None,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Draw samples of a run: PNGs or MP4s, a grid of all, and a manifest of how each was made."""
    if base and (raw or step is not None):
        raise UsageError(
            "--base is the model before any step, so it goes with neither --raw nor --step.",
            hint="leave --base out to sample a checkpoint",
        )
    from ddrl.builders.runs import load_run
    from ddrl.cli.pictures import Request, draw, write_samples

    weights: Weights = "base" if base else "raw" if raw else "ema"
    with make_reporter() as reporter:
        loaded = load_run(run, step=step, weights=weights, progress=reporter.made)
    section = loaded.recipe.evaluation
    request = Request(
        prompts=tuple(prompt or loaded.corpus.train.captions[:MAX_PROMPTS]),
        num=num,
        seed=section.seed if seed is None else seed,
        steps=section.steps,
        solver=section.solver,
        scale=scale or (1 if loaded.splits is None else 8),
    )
    folder = out or run / "samples"
    write_samples(loaded, request, draw(loaded, request), folder)
    typer.echo(f"{len(request.prompts) * num} samples of {loaded.name}, {weights} weights")
    typer.echo(folder / "grid.png")
