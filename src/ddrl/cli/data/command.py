"""``ddrl data``: what is in a data set, its encoding, and synthetic data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from ddrl.cli.data.synthesize import synthesize
from ddrl.cli.terminal.output import RECIPE_HELP, Verbose, counter, say, say_json, show_help
from ddrl.cli.terminal.progress import make_reporter
from ddrl.cli.terminal.streams import results_are_kept
from ddrl.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ddrl.data.media.framing import Framing

data = typer.Typer(
    name="data",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data.command()(synthesize)


@data.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """Look at a data set of captioned images or clips, encode it, or sample one."""
    if context.invoked_subcommand is None:
        show_help(context)


_Split = Annotated[
    str, typer.Option("--split", metavar="NAMES", help="Splits that are read: data.split.")
]
_Layout = Annotated[
    str, typer.Option("--layout", metavar="NAME", help="How PATH is laid out: data.layout.")
]
_Model = Annotated[
    str, typer.Option("--model", metavar="PATH", help="Count captions in its tokens: model.path.")
]
_Frames = Annotated[
    int | None,
    typer.Option("--frames", metavar="N", min=1, help="Frames that clips must have."),
]
_FPS = Annotated[
    float | None,
    typer.Option("--fps", metavar="F", help="Frames per second that they are counted at."),
]
_Sizes = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        metavar="WIDTHxHEIGHT",
        help="May be given again: count the samples of each size, as data.sizes takes them.",
    ),
]
_Outside = Annotated[
    bool,
    typer.Option(
        "--allow-outside",
        help="Read files outside of PATH that its links or lists name: data.outside.",
    ),
]
_CaptionColumn = Annotated[
    str, typer.Option("--caption-column", metavar="NAME", help="Captions: data.caption_column.")
]
_MediaColumn = Annotated[
    str, typer.Option("--media-column", metavar="NAME", help="Media: data.media_column.")
]
_SourceColumn = Annotated[
    str,
    typer.Option(
        "--source-column",
        metavar="NAME",
        help="Source images of edits: data.source_column; auto = a usual name.",
    ),
]


@data.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder, .jsonl, .tar or table.")],
    frames: _Frames = None,
    fps: _FPS = None,
    size: _Sizes = None,
    allow_outside: _Outside = False,
    model: _Model = "",
    split: _Split = "auto",
    layout: _Layout = "auto",
    caption_column: _CaptionColumn = "",
    media_column: _MediaColumn = "",
    source_column: _SourceColumn = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Decode every file of a data set; count what is usable, and name what is broken.

    Exits with 3 if anything is broken or nothing is usable.
    """
    if fps is not None and not 0 < fps < float("inf"):
        raise UsageError(f"--fps must be above 0, not {fps:g}.", hint="for example --fps 16")
    from ddrl.data.check import check as check_data
    from ddrl.data.layouts.columns import Columns
    from ddrl.data.layouts.files import Layout
    from ddrl.data.problems import OUTSIDE_HINT

    layouts = get_args(Layout)
    if layout not in layouts:
        raise UsageError(f"--layout has no value {layout!r}.", hint=f"one of {', '.join(layouts)}")
    report = check_data(
        path,
        layout=next(one for one in layouts if one == layout),
        split=split,
        columns=Columns(
            caption_column,
            media_column,
            "" if source_column == "auto" else source_column,
            has_sources=bool(source_column),
        ),
        framing=_framing(size or (), frames, fps),
        fps=fps,
        num_frames=frames,
        outside="allow" if allow_outside else "refuse",
        progress=counter("read"),
        read=_reader(model),
    )
    if as_json:
        say_json(json.dumps(report.as_json(), indent=1))
    else:
        for line in report.lines():
            say(line)
        if "outside" in report.broken_by_kind:
            say("hint: --allow-outside checks what lies outside too; " + OUTSIDE_HINT)
    if report.broken or not report.num_samples:
        raise typer.Exit(DataError.exit_code)


def _framing(sizes: Sequence[str], frames: int | None, fps: float | None) -> Framing | None:
    """Return what samples are brought to, if sizes are given."""
    if not sizes:
        return None
    from ddrl.data.media.framing import Bucket, Framing
    from ddrl.recipe.sizes import read_size

    buckets = []
    for text in sizes:
        if (found := read_size(text, frames=frames or 1)) is None:
            raise UsageError(
                f"--size {text} is no size.",
                hint="write width x height in pixels: --size 640x384 --size 384x640",
            )
        buckets.append(Bucket(*found))
    return Framing(tuple(dict.fromkeys(buckets)), fps=fps)


def _reader(model: str) -> Callable[[Sequence[str]], Sequence[str]] | None:
    """Return what counts captions in the tokens of a model, if one is given."""
    if not model:
        return None
    from ddrl.models.files.text_limits import read_limits

    return read_limits(model).notes


@data.command()
def encode(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help=RECIPE_HELP)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SECTION.KEY=VALUE", help="Keys to set otherwise."),
    ] = None,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Encode a recipe's files with its model, into run.cache, where training finds them.

    What is there already is not made again, so a second run, or one that was stopped, goes on.
    """
    from ddrl.named_code import look_in
    from ddrl.recipe import load_recipe
    from ddrl.recipe.extras import check_extras

    look_in(Path.cwd())
    loaded = load_recipe(recipe, overrides or [])  # a faulty one fails before torch is loaded
    if loaded.data.source == "prompts":
        raise UsageError(
            "data.source prompts has no media: there is nothing to encode.",
            hint="`ddrl data synthesize` makes the samples that stand for them",
        )
    if loaded.data.source not in {"files", "hub"}:
        raise UsageError(
            f"data.source {loaded.data.source} is "
            f"{'a task of your own' if loaded.data.own_task else 'embedded'}: there is nothing to "
            "encode.",
            hint='set data.source = "files" and data.path, with a diffusers model',
        )
    check_extras(loaded, is_trained=False)
    from ddrl.builders.data.encoding import encode_data
    from ddrl.builders.device import configure, pick_device
    from ddrl.builders.pretrained import build_pretrained

    configure(loaded)
    with make_reporter() as reporter:
        model = build_pretrained(loaded, pick_device(loaded))
        _, report = encode_data(loaded, model, progress=reporter.made)
    results_are_kept()
    for line in report.lines():
        say(line)
