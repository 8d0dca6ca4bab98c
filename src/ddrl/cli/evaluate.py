"""``ddrl evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddrl.cli.terminal.output import Verbose, format_change, say, say_json
from ddrl.cli.terminal.overrides import AllowCode, ModelOption, split_runs, with_model
from ddrl.cli.terminal.steps import StepOption, read_step
from ddrl.cli.terminal.streams import results_are_kept
from ddrl.cli.terminal.tables import print_table

if TYPE_CHECKING:
    from ddrl.evaluation.findings.audit import Report


def evaluate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Folders of runs; SECTION.KEY=VALUE among them sets a key otherwise: where things "
            "lie, and how they are computed and measured.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Default: evaluation/ in the first run."),
    ] = None,
    step: StepOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report's numbers instead of a table.")
    ] = False,
    sheets: Annotated[
        bool, typer.Option("--sheets", help="Write the samples as samples/RUN.png, too.")
    ] = False,
    allow_code: AllowCode = False,  # noqa: ARG001 - its callback does the work
    model: ModelOption = None,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Measure runs against the base they start from, and judge whether the reward was hacked.

    Writes report.html, which needs no other file, and report.json.
    """
    from ddrl.evaluation.pages.page import headline
    from ddrl.evaluation.sheets import write_sheets
    from ddrl.jobs.evaluate import audit

    runs, overrides = split_runs(arguments)
    folder = audit.report_folder(runs, out)
    report = audit.evaluate(
        runs, out=folder, step=read_step(step), overrides=with_model(overrides, model)
    )
    if sheets:
        write_sheets(report.samples, folder / "samples")
    if as_json:
        say_json((folder / "report.json").read_text(encoding="utf-8"))
        return
    results_are_kept()
    _print_table(report)
    for name, verdict in report.verdicts().items():
        if verdict.status != "base":
            say(f"{name}: {verdict.sentence}")
    say(folder / "report.html")
    say(headline(report))


def _print_table(report: Report) -> None:
    verdicts = report.verdicts()
    heads = ("run", "reward", "judge", "Fréchet", "diversity", "held-out loss", "verdict")
    rows = [
        (
            run.name,
            f"{run.reward.value:.3f}",
            f"{run.judge_accuracy.value:.3f}",
            f"{run.frechet.value:.2f}",
            f"{run.diversity.value:.2f}",
            "" if run.is_base else format_change(run.drift.value),
            verdicts[run.name].status,
        )
        for run in report.runs
    ]
    print_table(heads, rows, left=(0, len(heads) - 1))
