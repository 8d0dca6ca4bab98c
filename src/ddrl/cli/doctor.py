"""``ddrl doctor``."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddrl.cli.terminal.output import Verbose, say, say_json
from ddrl.errors import UsageError

if TYPE_CHECKING:
    from ddrl.cli.selfcheck import Result

FORMAT = "ddrl-doctor/1"
MODEL_FORMAT = "ddrl-doctor-model/1"


def doctor(
    cache: Annotated[
        Path, typer.Option("--cache", metavar="FOLDER", help="The recipes' run.cache.")
    ] = Path("runs/.cache"),
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="PATH",
            help="Look into a base instead: a folder, or the id of a model on the hub.",
        ),
    ] = "",
    variant: Annotated[
        str, typer.Option("--variant", metavar="WORD", help="The recipes' model.variant.")
    ] = "",
    family: Annotated[
        str,
        typer.Option(
            "--family", metavar="MODULE:CLASS", help="The recipes' model.family, with --model."
        ),
    ] = "",
    measure: Annotated[
        bool | None,
        typer.Option(
            "--measure/--no-measure",
            help="Measure how fast this machine computes, and keep that in the cache, where "
            "plans find it. Without: where there is a GPU.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Check this machine: versions, device, the mathematics, two training steps, the cache.

    Exits with 1 if a check fails. With --model, lists the parts of a base instead, their files and
    what is wrong with them, and reads no weights; exits with 3 if it can't be trained.
    """
    from ddrl.cli.selfcheck import all_checks, run_checks, speed_check

    if family and not model:
        raise UsageError(
            "--family says how a base is opened, and there is no --model.",
            hint="add --model PATH",
        )
    if model:
        _look_into(model, variant, "" if family == "diffusers" else family, as_json)
        return
    if not verbose:
        # Its own findings are the news; what the tiny runs log is not.
        logging.getLogger("ddrl").setLevel(logging.WARNING)
    checks, found = all_checks(cache), dict[str, object]()
    if measure or (measure is None and _has_gpu()):
        checks.append(speed_check(cache, found))
    results = run_checks(cache, checks)
    if as_json:
        _show_json(results, found)
    else:
        _show(results)
    if not all(result.ok for result in results):
        raise typer.Exit(1)


def _show(results: list[Result]) -> None:
    """Print what the checks found."""
    for result in results:
        mark, colour = ("ok      ", "green") if result.ok else ("FAILED  ", "red")
        say(f"{result.name}: {result.detail}", mark=mark, colour=colour)
        if result.hint:
            say(f"        hint: {result.hint}")


def _show_json(results: list[Result], measured: dict[str, object]) -> None:
    """Print what the checks found, and what was measured, as JSON."""
    rows = [vars(result) for result in results]
    report: dict[str, object] = {"format": FORMAT, "ok": all(r.ok for r in results), "checks": rows}
    if measured:
        report["measured"] = measured
    say_json(json.dumps(report, indent=1))


def _has_gpu() -> bool:
    """Whether PyTorch sees one; an installation that can't tell fails a check instead."""
    try:
        import torch
    except (ImportError, OSError):
        return False
    return torch.cuda.is_available()


def _look_into(model: str, variant: str, family: str, as_json: bool) -> None:
    """List the parts of a base.

    Raises:
        DDRLError: it can't be trained.
    """
    from ddrl.builders.opening import inspect_base
    from ddrl.named_code import look_in
    from ddrl.recipe import format_size

    look_in(Path.cwd())
    base, fault = inspect_base(model, variant=variant, family=family)
    if as_json:
        rows = [
            {
                "name": part.name,
                "class": part.kind,
                "files": [str(path) for path in part.files],
                "bytes": part.size,
                "dtypes": part.dtypes,
                "quantized": part.quantized,
                "problem": part.problem,
                "hint": part.hint,
            }
            for part in base.parts
        ]
        found = {"format": MODEL_FORMAT, "ok": fault is None, "path": model}
        found |= {"class": base.class_name, "variant": base.variant, "parts": rows}
        typer.echo(json.dumps(found, indent=1))
    else:
        where = "" if base.is_here else ", on the hub: files are seen once they are downloaded"
        kind = f", weights of the variant {base.variant}" if base.variant else ""
        say(f"{model}: {base.class_name}{kind}{where}")
        if not base.parts and base.is_here:
            say("opened by the family itself, so that nothing is known of its files")
        for part in base.parts:
            mark, colour = ("ok      ", "green") if part.kind else ("without ", "yellow")
            mark, colour = ("FAILED  ", "red") if part.problem else (mark, colour)
            typer.secho(mark, nl=False, fg=colour)
            if part.problem:
                say(f"{part.name}: {part.problem}")
                say(f"        hint: {part.hint}")
                continue
            words = [part.kind] if part.kind else []
            if part.files:
                names = ", ".join(path.name for path in part.files)
                words.append(f"{format_size(part.size)} of {'/'.join(part.dtypes)} in {names}")
            words += [f"quantised by {part.quantized}"] if part.quantized else []
            say(f"{part.name}: {'; '.join(words)}" if words else part.name)
    if fault is not None:
        raise fault
