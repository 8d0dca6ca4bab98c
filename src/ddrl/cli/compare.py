"""``ddrl compare``."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddrl.cli.terminal.interrupts import Interrupts
from ddrl.cli.terminal.output import Verbose, complain, say, shout
from ddrl.cli.terminal.streams import results_are_kept
from ddrl.cli.terminal.tables import print_table
from ddrl.runs.lock import FolderLock

if TYPE_CHECKING:
    from ddrl.evaluation.findings.comparison import ComparisonReport
    from ddrl.jobs.compare.execute import Outcome
    from ddrl.jobs.compare.job import ComparisonJob

logger = logging.getLogger(__name__)


def compare(
    recipes: Annotated[
        list[Path],
        typer.Argument(
            metavar="COMPARISON",
            help="A TOML file with [[variant]] sections, or several recipes; or names of "
            "`ddrl recipe list`.",
        ),
    ],
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="0,1,2", help="Instead of the file's.")
    ] = "",
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="FOLDER", help="Instead of the file's.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", help="Runs at once; 0 = one per core, or one with a GPU.")
    ] = 0,
    only_report: Annotated[
        bool, typer.Option("--report", help="Write the report of what is there, and run nothing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs and how far they are, and do nothing.")
    ] = False,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Train methods side by side from one base, over betas and seeds, and audit them all.

    The same command resumes. Writes comparison.html, which needs no other file, and its numbers.
    """
    from ddrl.jobs.compare.job import ComparisonJob
    from ddrl.named_code import look_in

    look_in(Path.cwd())
    job = ComparisonJob(recipes, seeds=_numbers(seeds), folder=folder or "")
    if dry_run:
        for outcome in job.outcomes():
            run = outcome.run
            say(f"{outcome.state:8s} {run.label}, seed {run.seed}: {run.folder}")
        return
    with FolderLock(job.folder / "lock"), Interrupts() as interrupts:
        outcomes = job.outcomes() if only_report else _execute(job, workers, interrupts)
    if interrupts.number:
        finished = sum(outcome.state in ("done", "stopped") for outcome in outcomes)
        say(f"Stopped; {finished} of {len(job.runs)} runs are finished.", err=True)
        say(f"Resume with: {job.command}", err=True)
        raise typer.Exit(128 + interrupts.number)
    report, page = job.report(outcomes)
    results_are_kept()
    _print_table(report)
    say(page)
    _tell_failures(outcomes)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of seeds such as 0,1,2") from None


def _execute(job: ComparisonJob, workers: int, interrupts: Interrupts) -> list[Outcome]:
    start = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        minutes = (time.monotonic() - start) / 60
        logger.info("[%d/%d, %.1f min] %s", done, total, minutes, what)

    return job.execute(
        workers=workers,
        should_stop=lambda: interrupts.number != 0,
        on_change=tell,
        on_start=lambda: interrupts.be_patient(lambda: shout("stopping: runs save and end")),
    )


def _tell_failures(outcomes: list[Outcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        first = failed[0]
        complain(
            f"{len(failed)} of {len(outcomes)} runs failed; the first, {first.run.label} with seed "
            f"{first.run.seed}: {first.reason}",
            "the report holds the others; the same command tries the failed ones again",
        )
        raise typer.Exit(first.exit_code)


def _print_table(report: ComparisonReport) -> None:
    import collections

    names = ("reward", "judge_accuracy", "frechet", "diversity")
    rows = []
    for cell in (report.base, *report.cells):
        words = collections.Counter(cell.verdicts)
        rows.append(
            (
                cell.label,
                *(f"{cell.mean(name).value:.3f}" for name in names),
                f"{100 * cell.mean('heldout_loss_change').value:+.1f} %",
                ", ".join(f"{count} {word}" for word, count in words.items()),
            )
        )
    heads = ("method", "reward", "judge", "Fréchet", "diversity", "held-out loss", "audit")
    print_table(heads, rows, left=(0, len(heads) - 1))
