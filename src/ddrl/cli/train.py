"""``ddrl train``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddrl.cli.terminal.interrupts import Interrupted, Interrupts
from ddrl.cli.terminal.output import RECIPE_HELP, Verbose, format_change, say
from ddrl.cli.terminal.progress import make_reporter
from ddrl.cli.terminal.streams import results_are_kept

if TYPE_CHECKING:
    from ddrl.jobs.train.outcome import TrainingOutcome
    from ddrl.recipe import Recipe


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
    from ddrl.builders.device import configure

    configure(loaded)
    if dry_run:
        from ddrl.jobs.operations import time_lines
        from ddrl.jobs.plan import plan_recipe
        from ddrl.recipe.plan.lines import plan_lines

        plan = plan_recipe(loaded)
        for line in [*plan_lines(plan), *time_lines(plan)]:
            say(line)
        return
    _execute(loaded, shlex.join(["ddrl", "train", str(recipe), *(overrides or [])]))


def _execute(recipe: Recipe, command: str) -> None:
    """Train under signals: the first lets an iteration finish and the run save."""
    from ddrl.jobs.train.run import TrainingRun

    results_are_kept()
    run = TrainingRun(recipe, command)
    try:
        with Interrupts() as interrupts:
            outcome = run.execute(
                should_stop=lambda: interrupts.number != 0,
                make_reporter=make_reporter,
                on_start=lambda reporter: interrupts.be_patient(reporter.stopping),
            )
    except Interrupted as stop:
        if not run.is_training:
            raise
        message = f"{stop}; {run.kept()}\nResume with: {command}"
        raise Interrupted(stop.exit_code - 128, message) from None
    if outcome.was_finished:
        say(f"Already finished. {_summary(outcome)}")
    elif outcome.finished:
        say(_summary(outcome))
    else:
        say(
            f"Stopped after step {outcome.step} of {outcome.steps}; a checkpoint is saved.",
            err=True,
        )
        say(f"Resume with: {command}", err=True)
        raise typer.Exit(128 + interrupts.number)


def _summary(outcome: TrainingOutcome) -> str:
    """The run in one line."""
    parts = [f"{outcome.folder}: {outcome.step} steps in {outcome.seconds:.0f} s"]
    if outcome.reward is not None:
        parts.append("reward {:.3f} -> {:.3f}".format(*outcome.reward))
    if outcome.heldout_loss_change is not None:
        parts.append(f"held-out loss {format_change(outcome.heldout_loss_change)}")
    return f"{', '.join(parts)}. Next: {shlex.join(['ddrl', 'evaluate', str(outcome.folder)])}"
