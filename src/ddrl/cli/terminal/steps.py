"""Which weights of a run: ``--step``, a number or ``best``, and ``--raw``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ddrl.runs.loaded import Step

StepOption = Annotated[
    str | None,
    typer.Option(
        "--step",
        metavar="STEP",
        help="Which checkpoint: a number, or best (by the audit while training); default: the "
        "newest.",
    ),
]


RawOption = Annotated[
    bool, typer.Option("--raw", help="The weights themselves, not their average.")
]


def read_step(text: str | None) -> Step | None:
    """Return the value of ``--step``.

    Raises:
        typer.BadParameter: it is neither a number nor ``best``.
    """
    if text is None:
        return None
    if text == "best":
        return "best"
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is neither a step's number nor best")
    return int(text)
