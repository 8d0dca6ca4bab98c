"""``ddrl train``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ddrl.cli.terminal.output import RECIPE_HELP, Verbose, say


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help=RECIPE_HELP)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SECTION.KEY=VALUE", help="Keys to set otherwise."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the run amounts to, and do nothing.")
    ] = False,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Post-train a model as a recipe says; the same command resumes a run that was stopped.

    The run is written to run.folder. Ctrl-C finishes the iteration and saves a checkpoint.
    """
    from ddrl.named_code import look_in
    from ddrl.recipe import load_recipe
    from ddrl.recipe.extras import check_extras

    look_in(Path.cwd())
    loaded = load_recipe(recipe, overrides or [])  # a faulty one fails before torch is loaded
    if not dry_run:
        check_extras(loaded)
    from ddrl.builders.device import limit_threads

    limit_threads(loaded)
    if dry_run:
        from ddrl.jobs.plan import plan_recipe
        from ddrl.recipe.plan.lines import plan_lines

        for line in plan_lines(plan_recipe(loaded)):
            say(line)
        return
    from ddrl.cli.training import TrainingRun

    command = shlex.join(["ddrl", "train", str(recipe), *(overrides or [])])
    TrainingRun(loaded, command).execute()
