"""A comparison from its file to its report, for the command line and as a call."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from ddrl.builders.device import pick_device
from ddrl.evaluation.findings.comparison import ComparisonReport
from ddrl.evaluation.pages.comparison_page import write_comparison
from ddrl.jobs.compare.execute import Outcome, execute, pick_workers, prepare, read_outcome
from ddrl.jobs.compare.report import build_comparison
from ddrl.recipe.comparison import load_comparison, plan_runs
from ddrl.recipe.reading.shipped import find_recipe


class ComparisonJob:
    """Runs that are planned, and where their report goes.

    Args:
        paths: one comparison file, or several recipes; names of those that come with ddrl, too.
        seeds: instead of the file's.
        folder: instead of the file's.

    Attributes:
        title: headline of the report.
        folder: where runs and report go.
        runs: what is to be there, in the order of the report.
        command: which does this, and resumes it.

    Raises:
        RecipeError: a file can't be read, or is not what it should be.
    """

    def __init__(
        self, paths: Sequence[Path | str], *, seeds: Sequence[int] = (), folder: Path | str = ""
    ) -> None:
        files = [find_recipe(Path(p), is_comparison=len(paths) == 1) for p in paths]
        comparison, beside = load_comparison(files)
        changes: dict[str, object] = {"seeds": tuple(seeds)} if seeds else {}
        changes |= {"folder": str(folder)} if folder else {}
        comparison = comparison.model_copy(update=changes)
        self.title, self.folder = comparison.title, Path(comparison.folder)
        self.runs = plan_runs(comparison, beside)
        self._files = {*files, *(run.recipe_path for run in self.runs)}
        words = ["ddrl", "compare", *map(str, paths)]
        words += ["--seeds", ",".join(map(str, seeds))] if seeds else []
        words += ["--folder", str(folder)] if folder else []
        self.command = shlex.join(words)

    def outcomes(self) -> list[Outcome]:
        """What is there of each run now."""
        return [read_outcome(run) for run in self.runs]

    def execute(
        self,
        *,
        workers: int = 0,
        should_stop: Callable[[], bool] = lambda: False,
        on_change: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
        on_start: Callable[[], None] = lambda: None,
    ) -> list[Outcome]:
        """Make what the runs share, then train and audit those that are not there yet.

        Args:
            workers: runs at once; 0 is one per core, or one with an accelerator.
            should_stop: looked at now and then; true has runs save and end.
            on_change: told (what happened, runs finished, runs in all).
            on_start: called before the first run, when ``should_stop`` begins to count.

        Raises:
            DDRLError: of the kind that fits, for what the runs share; a run that fails stops none.
        """
        is_accelerated = pick_device(self.runs[0].recipe).type != "cpu"
        count = pick_workers(workers, has_accelerator=is_accelerated)
        prepare([run.recipe for run in self.runs])
        on_start()
        return execute(self.runs, workers=count, should_stop=should_stop, on_change=on_change)

    def report(self, outcomes: Sequence[Outcome]) -> tuple[ComparisonReport, Path]:
        """Write ``comparison.html`` and ``comparison.json``; the report, and the page's path.

        Raises:
            DataError: no run has figures, or they can't stand in one table.
        """
        report = build_comparison(
            outcomes, title=self.title, reproduce=self.command, files=sorted(self._files)
        )
        page, _ = write_comparison(report, self.folder)
        return report, page


def compare(
    paths: Sequence[Path | str],
    *,
    seeds: Sequence[int] = (),
    folder: Path | str = "",
    workers: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> ComparisonReport:
    """Train methods side by side from one base, audit them all, and write the report.

    What ``ddrl compare`` does, and resumes as it does.

    Args:
        paths: one comparison file, or several recipes.
        seeds: instead of the file's.
        folder: instead of the file's.
        workers: runs at once; 0 is one per core, or one with an accelerator.
        should_stop: looked at now and then; true has runs save and end, and what is there is
            reported.

    Returns:
        What was measured; ``comparison.html`` and ``comparison.json`` are in the folder.

    Raises:
        DDRLError: of the kind that fits; runs that fail are in the report, if any has figures.
    """
    job = ComparisonJob(paths, seeds=seeds, folder=folder)
    return job.report(job.execute(workers=workers, should_stop=should_stop))[0]
