"""What a hacking audit holds: its runs side by side, and the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddrl.errors import DataError
from ddrl.evaluation.findings.signs import Marks
from ddrl.evaluation.findings.verdict import Verdict, judge_run
from ddrl.evaluation.findings.wording import beside_base
from ddrl.evaluation.measures.result import Measured, PixelShift, Regression, RunResult
from ddrl.evaluation.measures.statistics import Basis, Interval, finite

FORMAT = "ddrl-report/1"


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a report shows; P prompts, S seeds, pictures of H x W.

    Attributes:
        title: headline of the page.
        created: when it was made, as text; the same text gives the same bytes.
        prompts: the P prompts of the sample grids.
        runs: the base and the runs that started from it, in the order of the page.
        samples: run name -> uint8 (P, S, H, W, 3); the same prompts and seeds for every run.
            A run may be absent.
        real: uint8 (P, S, H, W, 3) examples of real data for the same prompts, or None.
        has_real: whether data are real; else samples of the base stand in their place, in
            pictures, figures and words.
        real_frechet: Fréchet distance between two sets of real data: what no model can beat.
        drift_limit: mark of the held-out loss change, as a fraction.
        clips: run name -> uint8 (P', S', T, H, W, 3) of some samples that move; P' <= P, S' <= S.
        encoder: what features are of, by name.
        environment: what, where and with which seeds: shown in the footer in this order.
        reproduce: the commands that make this report again.
        provenance: commits, sources, hardware and versions, as JSON values.

    Raises:
        DataError: not exactly one base, two runs of one name, or samples of another shape.
    """

    title: str
    created: str
    prompts: tuple[str, ...]
    runs: tuple[RunResult, ...]
    samples: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    real: NDArray[np.uint8] | None = None
    has_real: bool = True
    real_frechet: float | None = None
    drift_limit: float = 0.10
    clips: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    encoder: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    reproduce: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bases = [run.name for run in self.runs if run.is_base]
        if len(bases) != 1:
            raise DataError(f"A report needs exactly one base model, not {len(bases)}: {bases}.")
        names = [run.name for run in self.runs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"Two runs of the report are called {twice[0]!r}.")
        strange = sorted(set(self.samples) - set(names))
        if strange:
            raise DataError(f"There are samples of {strange[0]!r}, which is no run of the report.")
        seeds = {_checked_grid(name, grid, self.prompts) for name, grid in self.samples.items()}
        if len(seeds) > 1:
            raise DataError(
                f"The runs' samples have different numbers of seeds: {sorted(seeds)}.",
                hint="generate every run's samples with the same seeds",
            )
        if self.real is not None:
            _checked_grid("real data", self.real, self.prompts)

    @property
    def base(self) -> RunResult:
        """The model before post-training."""
        return next(run for run in self.runs if run.is_base)

    @property
    def basis(self) -> Basis | None:
        """The prompts and samples of every run, and what is drawn of them; None: not known."""
        known = (figure.basis for run in self.runs for figure in (run.frechet, run.reward))
        return next((basis for basis in known if basis is not None), None)

    def verdicts(self) -> dict[str, Verdict]:
        """Return the verdict of each run by name, judged against the base with its mark."""
        found = {
            run.name: judge_run(run, self.base, marks=Marks(drift_limit=self.drift_limit))
            for run in self.runs
        }
        return found if self.has_real else {name: _beside(one) for name, one in found.items()}


def _beside(verdict: Verdict) -> Verdict:
    """Return the verdict in the words of a report without real data."""
    return replace(
        verdict,
        sentence=beside_base(verdict.sentence),
        reasons=tuple(beside_base(reason) for reason in verdict.reasons),
    )


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as plain JSON values, without pictures.

    `runs` maps each name to its figures (`reward`, `judge_accuracy`, `frechet`, `diversity`,
    `vendi`, `real_vendi`, the number that it is a ratio to, `heldout_loss_change` as a fraction,
    and of clips three temporal ones), `intervals`
    with [low, high] of each, `changes` from the base paired by prompt and noise (of motion: how
    much farther from that of real clips, in logarithms), `sampling` with
    what each interval is over, `measures`, `pixels`, `regressions` and `verdict`.
    A figure that is not finite is null, and so are the ends where there is no interval.

    Args:
        report: what was measured.

    Returns:
        Values that `json.dumps(..., allow_nan=False)` accepts.
    """
    verdicts = report.verdicts()
    return {
        "format": FORMAT,
        "title": report.title,
        "created": report.created,
        "drift_limit": report.drift_limit,
        "encoder": report.encoder,
        "has_real": report.has_real,
        "real_frechet": finite(report.real_frechet),
        "prompts": list(report.prompts),
        "num_prompts": None if report.basis is None else report.basis.num_prompts,
        "num_samples": None if report.basis is None else report.basis.num_samples,
        "unit": None if report.basis is None else report.basis.unit,
        "environment": dict(report.environment),
        "reproduce": report.reproduce,
        "provenance": dict(report.provenance),
        "runs": {run.name: _run_as_json(run, verdicts[run.name]) for run in report.runs},
    }


def _run_as_json(run: RunResult, verdict: Verdict) -> dict[str, Any]:
    figures: dict[str, Interval] = {
        "reward": run.reward,
        "judge_accuracy": run.judge_accuracy,
        "frechet": run.frechet,
        "diversity": run.diversity,
        "vendi": run.vendi,
        "heldout_loss_change": run.drift,
        "temporal_frechet": run.temporal_frechet,
        "temporal_change": run.temporal_change,
        "temporal_consistency": run.temporal_consistency,
    }
    changes = {
        "reward": run.reward_change,
        "diversity": run.diversity_change,
        "vendi": run.vendi_change,
        "motion": run.motion_moved,
    }
    return {
        "label": run.label,
        "is_base": run.is_base,
        "method": run.method,
        **{name: finite(figure.value) for name, figure in figures.items()},
        "real_vendi": finite(run.real_vendi),
        "intervals": {name: _ends(figure) for name, figure in figures.items()},
        "changes": {name: _with_interval(change) for name, change in changes.items()},
        "sampling": {name: _basis(figure) for name, figure in figures.items()},
        "measures": {one.name: _measured_as_json(one) for one in run.measures},
        "pixels": {one.name: _shift_as_json(one) for one in run.pixels},
        "regressions": [_regression_as_json(one) for one in run.regressions],
        "verdict": {
            "status": verdict.status,
            "sentence": verdict.sentence,
            "reasons": list(verdict.reasons),
            "alarms": list(verdict.alarms),
        },
        "num_steps": run.num_steps,
        "seconds": run.seconds,
        "recipe": run.recipe,
        "curves": {
            "steps": list(run.curves.steps),
            "rewards": [finite(reward) for reward in run.curves.rewards],
            "evaluations": [[step, finite(drift)] for step, drift in run.curves.evaluations],
        },
    }


def _measured_as_json(one: Measured) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "value": finite(one.value.value),
        "interval": _ends(one.value),
        "sampling": _basis(one.value),
        "change": finite(one.change.value),
        "change_interval": _ends(one.change),
        "scale": finite(one.scale),
        "cause": one.cause,
    }


def _shift_as_json(one: PixelShift) -> dict[str, Any]:
    return {
        "mean": finite(one.mean),
        "data": finite(one.data),
        "difference": finite(one.difference.value),
        "interval": _ends(one.difference),
        "moved": finite(one.moved.value),
        "moved_interval": _ends(one.moved),
        "sampling": _basis(one.difference),
    }


def _regression_as_json(one: Regression) -> dict[str, Any]:
    return {
        "prompt": one.prompt_id,
        "reward": [finite(value) for value in one.reward],
        "measures": {name: [finite(a), finite(b)] for name, a, b in one.measures},
        "worst": one.worst,
        "change": finite(one.change),
    }


def _with_interval(figure: Interval) -> dict[str, Any]:
    return {"value": finite(figure.value), "interval": _ends(figure)}


def _basis(figure: Interval) -> dict[str, Any] | None:
    """Return what an interval is over, or what its value is of where it has none."""
    return None if figure.basis is None else asdict(figure.basis)


def _ends(figure: Interval) -> list[float | None]:
    return [finite(figure.low), finite(figure.high)]


def _checked_grid(name: str, grid: NDArray[np.uint8], prompts: tuple[str, ...]) -> int:
    """Return the number of seeds of a (P, S, H, W, 3) grid."""
    fits = grid.ndim == 5 and grid.shape[0] == len(prompts) and grid.shape[4] == 3
    if not fits or grid.dtype != np.uint8 or grid.size == 0:
        raise DataError(
            f"The samples of {name!r} are {grid.dtype} {grid.shape}, "
            f"not uint8 ({len(prompts)} prompts, seeds, height, width, 3)."
        )
    return int(grid.shape[1])
