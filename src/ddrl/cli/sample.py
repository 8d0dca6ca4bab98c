"""``ddrl sample``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddrl.cli.terminal.output import Verbose, say
from ddrl.cli.terminal.overrides import AllowCode, ModelOption, OverridesArgument, with_model
from ddrl.cli.terminal.progress import make_reporter
from ddrl.cli.terminal.steps import RawOption, StepOption, read_step
from ddrl.cli.terminal.streams import results_are_kept
from ddrl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ddrl.cli.pictures import Request
    from ddrl.runs.loaded import LoadedRun, Weights

MAX_PROMPTS = 16  # of the data's own, where none is asked for


_Given = Annotated[
    list[Path] | None,
    typer.Option(
        "--first-frame",
        "--source",
        metavar="FILE",
        help="First frame of clips, or source image of edits: given to all prompts, or one to "
        "each; default without --prompt: the data's own.",
    ),
]
_Size = Annotated[
    str,
    typer.Option(
        "--size",
        metavar="WIDTHxHEIGHT",
        help="Of the samples, in pixels; default: the size of the data, of several the first.",
    ),
]
_Scale = Annotated[
    int | None,
    typer.Option(
        "--scale",
        min=1,
        max=64,
        help="Screen pixels per pixel, each way; default: 8 for digits, 2 for words, else 1.",
    ),
]


def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    overrides: OverridesArgument = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", metavar="TEXT", help="May be given again; default: every prompt."),
    ] = None,
    first_frame: _Given = None,
    num: Annotated[int, typer.Option("--num", min=1, help="Samples per prompt.")] = 4,
    size: _Size = "",
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Default: the run's evaluation.seed.")
    ] = None,
    step: StepOption = None,
    raw: RawOption = False,
    base: Annotated[bool, typer.Option("--base", help="The model before post-training.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Default: RUN/samples.")
    ] = None,
    scale: _Scale = None,
    model: ModelOption = None,
    allow_code: AllowCode = False,  # noqa: ARG001 - its callback does the work
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Draw samples of a run: PNGs or MP4s, a grid of all, and a manifest of how each was made."""
    if base and (raw or step is not None):
        raise UsageError(
            "--base is the model before any step, so it goes with neither --raw nor --step.",
            hint="leave --base out to sample a checkpoint",
        )
    from ddrl.builders.data.sizes import sample_size
    from ddrl.cli.pictures import check_writable, draw, write_samples
    from ddrl.runs.first_frames import one_for_each, read_first_frames
    from ddrl.runs.folder import RunFolder, read_recipe
    from ddrl.runs.loaded import load_run

    weights: Weights = "base" if base else "raw" if raw else "ema"
    files, changes = tuple(first_frame or ()), with_model(overrides, model)
    recipe = read_recipe(RunFolder(run), changes)  # finds faults before weights are loaded
    chosen = sample_size(recipe, size)
    check_writable(is_clip=chosen[2] > 1)
    # The data's own pictures have the data's size.
    has_own = not (prompt or size or recipe.data.sizes[1:])
    given = read_first_frames(recipe, files, chosen, are_own=has_own)
    if given is not None and prompt:
        given = one_for_each(given, len(prompt))
    with make_reporter() as reporter:
        which, told = read_step(step), reporter.made
        loaded = load_run(run, step=which, weights=weights, overrides=changes, progress=told)
    request = _request(loaded, prompt or (), given, files, num=num, seed=seed, scale=scale)
    request = dataclasses.replace(request, size=chosen)
    folder = out or run / "samples"
    write_samples(loaded, request, draw(loaded, request), folder)
    results_are_kept()
    say(f"{len(request.prompts) * num} samples of {loaded.name}, {weights} weights")
    if others := recipe.data.sizes[1:] if not size else ():
        say(f"of the size {recipe.data.sizes[0]}; --size takes others, such as {', '.join(others)}")
    say(folder / "grid.png")


def _request(
    run: LoadedRun,
    prompts: Sequence[str],
    first_frames: Tensor | None,
    files: Sequence[Path],
    *,
    num: int,
    seed: int | None,
    scale: int | None,
) -> Request:
    """Return what to draw; of the data's own captions, each once, where no prompt is asked for.

    Where the data's prompts bring their own pictures, and no other is named, each is a caption with
    these.
    """
    from ddrl.cli.pictures import Request
    from ddrl.runs.first_frames import one_for_each

    are_own = bool(run.recipe.data.num_given and not prompts and first_frames is None)
    captions = () if prompts else run.corpus.train.captions
    texts = tuple(prompts or (captions if are_own else dict.fromkeys(captions)))
    texts = texts if prompts else texts[:MAX_PROMPTS]
    section = run.recipe.evaluation
    return Request(
        prompts=texts,
        num=num,
        seed=section.seed if seed is None else seed,
        steps=section.steps,
        solver=section.solver,
        scale=scale or run.task.pixel_scale,
        first_frames=None if first_frames is None else one_for_each(first_frames, len(texts)),
        are_own=are_own,
        first_frame_files=tuple(str(file) for file in files),
    )
