"""``ddrl data synthesize``: samples of the base model, as anchors and as a folder of data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddrl.cli.terminal.output import RECIPE_HELP, Verbose, say
from ddrl.cli.terminal.progress import make_reporter
from ddrl.cli.terminal.streams import results_are_kept
from ddrl.errors import UsageError

if TYPE_CHECKING:
    from ddrl.jobs.progress import Reporter
    from ddrl.jobs.synthesize import Synthesis
    from ddrl.recipe import Recipe

FORMAT = "ddrl-synthetic/1"
_MEDIA = (".png", ".mp4")


def synthesize(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help=RECIPE_HELP)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SECTION.KEY=VALUE", help="Keys to set otherwise."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Also write them as captioned media."),
    ] = None,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Sample a recipe's synthetic anchors from its base model, into run.cache.

    Training finds them there. What is there already is not made again, so a second run, or one
    that was stopped, goes on.
    """
    from ddrl.named_code import look_in
    from ddrl.recipe import load_recipe
    from ddrl.recipe.extras import check_extras
    from ddrl.recipe.rules.anchors import needs_synthetic

    look_in(Path.cwd())
    loaded = load_recipe(recipe, overrides or [])  # a faulty one fails before torch is loaded
    if out is None and not needs_synthetic(loaded):
        raise UsageError(
            "Training by this recipe takes no samples of the base model: data.anchor is "
            f"{loaded.data.anchor}, objective.regularizer is {loaded.objective.regularizer}.",
            hint='set data.anchor = "synthetic" or "mixed", or write them out with --out FOLDER',
        )
    if out is not None and loaded.data.source_images:
        raise UsageError(
            "Samples of edits can't be written out as data: their source images are not kept.",
            hint="leave --out out: samples that training takes are kept under run.cache",
        )
    check_extras(loaded, is_trained=False)
    earlier = None if out is None else _earlier(out)
    from ddrl.builders.device import configure
    from ddrl.jobs.synthesize import synthesize_recipe

    configure(loaded)
    with make_reporter() as reporter:
        synthesis = synthesize_recipe(loaded, progress=reporter.made)
        if out is not None and earlier is not None:
            _write(loaded, synthesis, out, earlier, reporter)
    results_are_kept()
    say(f"prompts  {len(synthesis.part.captions)}")
    for line in synthesis.made.lines():
        say(line)
    if out is not None:
        say(out)


def _earlier(folder: Path) -> dict[str, list[Path]]:
    """Return the samples that are in a folder: the files of each, by name, its record first.

    Raises:
        UsageError: the folder holds anything else, or can't be read.
    """
    from ddrl.disk import BESIDE

    found: dict[str, list[Path]] = {}
    try:
        files = sorted(folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise UsageError(
            f"{folder} can't be read: {error.strerror}.", hint="name another folder: --out FOLDER"
        ) from error
    for path in files:
        if path.suffix == ".json" and _is_ours(path):
            found[path.stem] = [path]
    for path in files:
        if path.suffix in _MEDIA and path.stem in found:
            found[path.stem].append(path)
        elif not path.name.startswith(BESIDE) and path not in found.get(path.stem, []):
            raise UsageError(
                f"{folder} holds {path.name}, which is no sample of `ddrl data synthesize`.",
                hint="name an empty or a new folder: --out FOLDER",
            )
    return found


def _is_ours(path: Path) -> bool:
    from ddrl.disk import read_object

    return read_object(path).get("format") == FORMAT


def _write(
    recipe: Recipe,
    synthesis: Synthesis,
    folder: Path,
    earlier: dict[str, list[Path]],
    reporter: Reporter,
) -> None:
    """Write what is not there, and remove samples of other settings.

    The record comes before the medium, so that a medium that is there is whole, and is ours.

    Raises:
        UsageError: the folder can't be written.
    """
    from ddrl.cli.pictures import slug
    from ddrl.disk import BESIDE

    samples = synthesis.made.samples
    names = [f"{slug(one.text)}-{one.key[:16]}" for one in samples]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"{BESIDE}*"):
            path.unlink(missing_ok=True)
        for name in earlier.keys() - set(names):
            for path in reversed(earlier[name]):
                path.unlink()
        for row, (one, name) in enumerate(zip(samples, names, strict=True)):
            record = {
                "caption": one.text,
                "format": FORMAT,
                "sample": one.sample,
                "noise": [synthesis.made.settings["seed"], one.prompt_name, one.sample],
                "model": recipe.model.path or "the embedded model of ddrl",
                **({} if one.score is None else {"reward": one.score}),
                **synthesis.made.settings,
            }
            is_there = len(earlier.get(name, [])) == 2
            _write_sample(recipe, synthesis, row, folder / name, record, is_there=is_there)
            reporter.made("files", row + 1, len(samples), "")
    except OSError as error:
        raise UsageError(
            f"The samples can't be written to {folder}: {error.strerror or error}.",
            hint="name another folder: --out FOLDER",
        ) from error


def _write_sample(
    recipe: Recipe,
    synthesis: Synthesis,
    row: int,
    stem: Path,
    record: dict[str, Any],
    *,
    is_there: bool,
) -> None:
    """Write a record if it is new or another, and the picture or clip if it is not there."""
    from ddrl.cli.pictures import FPS, mp4, png
    from ddrl.disk import replace_file

    content = (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()
    path = stem.with_name(f"{stem.name}.json")
    if not (is_there and path.read_bytes() == content):
        replace_file(path, content)
    if is_there:
        return
    pixels = synthesis.pixels(row)
    if pixels.ndim == 4:
        fps = recipe.data.fps or FPS
        replace_file(stem.with_name(f"{stem.name}.mp4"), mp4(pixels, 1, fps=fps))
    else:
        replace_file(stem.with_name(f"{stem.name}.png"), png(pixels, 1))
