"""What the commands that read a finished run take with it: overrides, and ``--model``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ddrl.errors import UsageError

_OVERRIDE = re.compile(r"\s*[\w.]*\s*=")

OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SECTION.KEY=VALUE",
        help="Keys to set otherwise: where things lie, and how they are computed and measured.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="PATH",
        help="Where the base lies now, short for model.path=PATH; it has to be the same.",
    ),
]


def _look(allowed: bool) -> bool:
    """Of the working folder, run what a recipe names, or have an error say that it lies there."""
    from ddrl.named_code import look_in

    look_in(Path.cwd(), allowed=allowed)
    return allowed


AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code",
        callback=_look,
        help="Let a run's recipe name a reward, a family or a task whose module lies in the "
        "working folder.",
    ),
]


def with_model(overrides: Sequence[str] | None, model: str | None) -> list[str]:
    """Return the overrides, and that of ``--model``."""
    return [*(overrides or []), *([] if model is None else [f"model.path={model}"])]


def split_runs(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Tell the folders of runs from overrides; a folder that is there is a run.

    Raises:
        UsageError: there is no run among them.
    """
    overrides = [one for one in arguments if _OVERRIDE.match(one) and not Path(one).exists()]
    runs = [Path(one) for one in arguments if one not in overrides]
    if not runs:
        raise UsageError(
            "There are overrides and no run.", hint="name the folder of a run before them"
        )
    return runs, overrides
