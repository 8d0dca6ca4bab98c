"""Outcomes of a comparison's runs to its report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddrl.errors import DataError
from ddrl.evaluation.findings.comparison import Cell, ComparisonReport
from ddrl.evaluation.findings.wording import duration
from ddrl.evaluation.measures.statistics import Basis, Interval, Unit
from ddrl.evaluation.sheets import read_sheet
from ddrl.jobs.compare.execute import Outcome, audit_of
from ddrl.runs.describe import commits_in_words
from ddrl.runs.provenance import merged

_BASE = "base"


def build_comparison(
    outcomes: Sequence[Outcome], *, title: str, reproduce: str, files: Sequence[Path] = ()
) -> ComparisonReport:
    """One report of all runs that have figures.

    Args:
        outcomes: of :func:`ddrl.jobs.compare.execute.execute`.
        title: headline.
        reproduce: the command that makes it again.
        files: of the comparison and its recipes.

    Raises:
        DataError: no run has figures, or the runs were measured beside different bases.
    """
    measured = [outcome for outcome in outcomes if outcome.audit is not None]
    if not measured:
        reasons = [outcome.reason for outcome in outcomes if outcome.reason]
        raise DataError(
            f"No run of the comparison has figures{f': {reasons[0]}' if reasons else ''}.",
            hint="its folder keeps a train.log and an evaluate.log for each run",
        )
    first = measured[0].audit
    assert first is not None
    _check_one_base(measured)
    base = _cell(_BASE, first["runs"][_BASE]["label"], [measured[0]], _BASE)
    labels = dict.fromkeys((o.run.variant, o.run.label) for o in outcomes)
    cells = [
        _cell(variant, label, [o for o in outcomes if o.run.label == label])
        for variant, label in labels
    ]
    parts = [outcome.audit.get("provenance", {}) for outcome in measured if outcome.audit]
    origin = merged(reproduce, files, parts)
    return ComparisonReport(
        title=title,
        created=datetime.now(UTC).strftime("%Y-%m-%d"),
        base=replace(base, verdicts=()),
        cells=tuple(cells),
        drift_limit=float(first["drift_limit"]),
        has_real=bool(first.get("has_real", True)),
        prompts=tuple(first["prompts"]),
        basis=_basis(first),
        environment=_environment(measured, origin),
        reproduce=reproduce,
        provenance=origin,
    )


def _basis(audit: Mapping[str, Any]) -> Basis | None:
    """How much each run was measured on; audits of earlier versions don't say."""
    prompts, samples = audit.get("num_prompts"), audit.get("num_samples")
    if not (isinstance(prompts, int) and isinstance(samples, int)):
        return None
    unit: Unit = "sample" if audit.get("unit") == "sample" else "prompt"
    return Basis(unit, prompts, samples)


def _check_one_base(measured: Sequence[Outcome]) -> None:
    """Refuse to put runs in one table that were measured on other prompts or from other bases."""
    figures = [_figures(outcome, _BASE) for outcome in measured]
    for outcome, found in zip(measured[1:], figures[1:], strict=True):
        for name, value in figures[0].items():
            other = found.get(name, Interval.alone(math.nan)).value
            if not np.isclose(value.value, other, rtol=1e-3, atol=1e-5, equal_nan=True):
                raise DataError(
                    f"{measured[0].run.folder} and {outcome.run.folder} were measured beside "
                    f"different bases: {name} is {value.value:.4g} and {other:.4g}.",
                    hint="variants share the model, its data, the rewards and [evaluation]",
                )


def _cell(variant: str, label: str, outcomes: Sequence[Outcome], name: str = "") -> Cell:
    """A method at one beta; ``name`` is the base's in its audit, else the run's own."""
    measured = [outcome for outcome in outcomes if outcome.audit is not None]
    rows = [_figures(outcome, name) for outcome in measured]
    keys = dict.fromkeys(key for row in rows for key in row)
    nan = Interval.alone(math.nan)
    return Cell(
        variant=variant,
        label=label,
        seeds=tuple(outcome.run.seed for outcome in measured),
        figures={key: tuple(row.get(key, nan) for row in rows) for key in keys},
        verdicts=tuple(str(_run(o, name)["verdict"]["status"]) for o in measured),
        stopped=tuple(o.reason for o in outcomes if o.state == "stopped"),
        failed=tuple(o.reason or o.state for o in outcomes if o.audit is None),
        seconds=float(np.mean([o.seconds for o in measured])) if measured else 0.0,
        pictures=_pictures(measured, name),
        curves=tuple(_curve(_run(outcome, name)) for outcome in measured if not name),
    )


def _run(outcome: Outcome, name: str) -> Mapping[str, Any]:
    """The run's part of its audit, or that of the base it was measured beside."""
    assert outcome.audit is not None
    runs: Mapping[str, Any] = outcome.audit["runs"]
    found: Mapping[str, Any] = runs[name or next(key for key in runs if key != _BASE)]
    return found


def _figures(outcome: Outcome, name: str) -> dict[str, Interval]:
    run = _run(outcome, name)

    def number(value: object) -> float:
        return float(value) if isinstance(value, int | float) else math.nan

    figures = {
        key: Interval(number(run.get(key)), number(ends[0]), number(ends[1]))
        for key, ends in run["intervals"].items()
    }
    measures = {
        name: Interval(number(one["value"]), number(one["interval"][0]), number(one["interval"][1]))
        for name, one in run["measures"].items()
    }
    return figures | measures


def _curve(run: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    rewards = [math.nan if value is None else float(value) for value in run["curves"]["rewards"]]
    return tuple(run["curves"]["steps"]), tuple(rewards)


def _pictures(measured: Sequence[Outcome], name: str) -> NDArray[np.uint8] | None:
    """The samples of the first seed; a report does not fail for want of them."""
    if not measured:
        return None
    folder = audit_of(measured[0].run.folder) / "samples"
    try:
        return read_sheet(folder / f"{name or measured[0].run.folder.name}.png")
    except DataError:
        return None


def _environment(measured: Sequence[Outcome], origin: Mapping[str, Any]) -> dict[str, str]:
    first = measured[0].audit
    assert first is not None
    seeds = ", ".join(map(str, sorted({outcome.run.seed for outcome in measured})))
    total = sum(outcome.seconds for outcome in measured)
    facts = {key: str(value) for key, value in first["environment"].items() if key != "Seeds"}
    return {
        **facts,
        "Code": f"ddrl {version('ddrl')}, {commits_in_words(origin)}",
        "Seeds": f"{seeds}; the audit's noise is the same for all",
        "Training time": f"{duration(total)} for {len(measured)} runs, on one worker each",
    }
