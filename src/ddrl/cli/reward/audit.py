"""``ddrl reward audit``."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddrl.cli.terminal.output import Verbose, counter, say, say_json
from ddrl.cli.terminal.streams import results_are_kept
from ddrl.cli.terminal.tables import print_table
from ddrl.errors import UsageError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from ddrl.evaluation.findings.reward_audit import RewardAudit


def audit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A reward, or module:Class.")],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="FOLDER",
            help="Captioned images or clips: a folder, .jsonl, .tar or table; or digits, "
            "moving_digits or words, for the embedded data.",
        ),
    ],
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="An option of the reward; repeat it."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Write audit.html and audit.json there."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=0, help="Samples at most; 0 = all.")
    ] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """See whether a reward measures what you think, before you train on it.

    Scores samples and copies that are changed in one way each (another prompt, blur, noise,
    saturation, a blank picture, a frozen clip, ...) and says what speaks against the reward.
    """
    options = dict(_parse(text) for text in option or [])
    from ddrl.evaluation.findings.reward_audit import as_json as numbers
    from ddrl.evaluation.findings.reward_findings import findings
    from ddrl.evaluation.pages.reward_page import write_audit
    from ddrl.jobs.reward_audit.audit import audit_reward
    from ddrl.named_code import look_in

    look_in(Path.cwd())
    command = ["ddrl", "reward", "audit", name, "--data", data, "--limit", str(limit)]
    for text in option or []:
        command += ["--option", text]
    report = audit_reward(
        name, options, data, limit=limit, progress=counter("scored"), command=shlex.join(command)
    )
    page = None if out is None else write_audit(report, out)[0]
    if as_json:
        found = findings(report)
        say_json(json.dumps(numbers(report, found), indent=1, ensure_ascii=False))
        return
    if page is not None:
        results_are_kept()
    _show(report)
    if page is not None:
        say(page)


def _parse(text: str) -> tuple[str, JsonValue]:
    """``key=value``; the value is TOML's, or text without quotation marks.

    Raises:
        UsageError: it is not of this form.
    """
    key, separator, value = (part.strip() for part in text.partition("="))
    if not key or not separator:
        raise UsageError(
            f'--option "{text}" is not of the form key=value.', hint="for example scale=2.0"
        )
    try:
        parsed: object = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value
    return key, parsed if isinstance(parsed, str | int | float | bool | list | dict) else value


def _show(report: RewardAudit) -> None:
    from ddrl.evaluation.findings.reward_findings import findings
    from ddrl.evaluation.pages.reward_page import facts, headline, table

    heads = ("samples", "mean", "difference", "95 % interval", "deviations", "failed")
    rows = [
        (one.label, one.mean, one.difference, one.interval, one.standardised, one.failed)
        for one in table(report)
    ]
    print_table(heads, rows)
    say()
    for label, text in facts(report).items():
        say(f"{label}: {text}")
    say()
    found = findings(report)
    for one in found:
        say(one.text, mark=f"{one.level}: ", colour="red" if one.level == "problem" else "yellow")
    say(headline(report, found))
