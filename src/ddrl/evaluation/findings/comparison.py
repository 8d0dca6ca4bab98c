"""Methods side by side over betas and seeds: what a comparison's report holds, and as JSON."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddrl.errors import DataError
from ddrl.evaluation.measures.pareto import cost_at, hypervolume, pareto_front
from ddrl.evaluation.measures.statistics import Basis, Interval, finite, over_seeds

FORMAT = "ddrl-comparison/1"


@dataclass(frozen=True)
class Trade:
    """A cost that reward is weighed against.

    Attributes:
        key: figure of the audit.
        head: what readers see.
    """

    key: str
    head: str

    def cost(self, value: float) -> float:
        """Return the figure as a cost: lost diversity is what is missing from that of real data."""
        return max(0.0, 1.0 - value) if self.key == "diversity" else value


TRADES = (
    Trade("heldout_loss_change", "held-out loss change"),
    Trade("frechet", "Fréchet distance"),
    Trade("diversity", "lost diversity"),
)


@dataclass(frozen=True)
class Cell:
    """A method at one beta, over seeds.

    Attributes:
        variant: the method.
        label: the method with its beta.
        seeds: those that have figures.
        figures: name -> an interval over prompts for each of ``seeds``.
        verdicts: the audit's status for each of ``seeds``.
        stopped: why the guard stopped a run, for each that it did.
        failed: why a run has no figures, for each that has none.
        seconds: mean time of a run.
        pictures: uint8 (P, S, H, W, 3) samples of the first seed, or None.
        curves: per seed, (steps, rewards).
    """

    variant: str
    label: str
    seeds: tuple[int, ...]
    figures: Mapping[str, tuple[Interval, ...]]
    verdicts: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    seconds: float = 0.0
    pictures: NDArray[np.uint8] | None = None
    curves: tuple[tuple[tuple[int, ...], tuple[float, ...]], ...] = ()

    def mean(self, key: str) -> Interval:
        """Return a figure over seeds and prompts."""
        return over_seeds(self.figures.get(key, ()))


@dataclass(frozen=True)
class Matched:
    """Two methods at equal reward.

    Attributes:
        reward: at which they are compared.
        ours: cost of the first method, mean over seeds.
        theirs: of the second.
        difference: ours minus theirs, paired by seed; over seeds.
    """

    reward: float
    ours: float
    theirs: float
    difference: Interval


@dataclass(frozen=True, kw_only=True)
class ComparisonReport:
    """All that a comparison's report shows.

    Attributes:
        title: headline.
        created: when it was made, as text.
        base: the model that all runs start from.
        cells: methods and betas, in the order of the page.
        drift_limit: mark of the held-out loss change.
        has_real: whether data are real; else samples of the base stand in their place.
        prompts: of the pictures.
        basis: the prompts and samples of every run, and what is drawn of them; None: not known.
        environment: what, where and with which seeds.
        reproduce: the command that makes it again.
        provenance: commits, sources, hardware and versions, as JSON values.

    Raises:
        DataError: there is nothing to compare.
    """

    title: str
    created: str
    base: Cell
    cells: tuple[Cell, ...]
    drift_limit: float = 0.10
    has_real: bool = True
    prompts: tuple[str, ...] = ()
    basis: Basis | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    reproduce: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.cells:
            raise DataError("A comparison needs at least one method.")

    @property
    def variants(self) -> tuple[str, ...]:
        """The methods, in the order of the page."""
        return tuple(dict.fromkeys(cell.variant for cell in self.cells))

    def worst_cost(self, trade: Trade) -> float:
        """Cost past which a run adds no area.

        Twice the drift's mark; four times the base's Fréchet distance; half of the diversity.
        """
        if trade.key == "heldout_loss_change":
            return 2 * self.drift_limit
        if trade.key == "frechet":
            return 4 * self.base.mean("frechet").value
        return 0.5

    def points(self, variant: str, trade: Trade, seed: int) -> NDArray[np.float64]:
        """(reward, cost) of the base and of a method's runs with one seed, shape (N, 2).

        Runs without both figures are left out.
        """
        start = self.base.mean("reward").value, trade.cost(self.base.mean(trade.key).value)
        rows = [start]
        for cell in self.cells:
            if cell.variant == variant and seed in cell.seeds:
                at = cell.seeds.index(seed)
                paid = trade.cost(cell.figures[trade.key][at].value)
                rows.append((cell.figures["reward"][at].value, paid))
        points = np.array(rows, dtype=np.float64)
        known: NDArray[np.float64] = points[np.isfinite(points).all(axis=1)]
        return known

    def seeds_of(self, variant: str) -> tuple[int, ...]:
        """Seeds with which at least one run of a method has figures."""
        return tuple(sorted({s for c in self.cells if c.variant == variant for s in c.seeds}))

    def area(self, variant: str, trade: Trade) -> Interval:
        """Area that a method's front dominates, over seeds; NaN where it has no figures."""
        areas = [
            hypervolume(
                self.points(variant, trade, seed),
                (self.base.mean("reward").value, self.worst_cost(trade)),
            )
            for seed in self.seeds_of(variant)
        ]
        return over_seeds([Interval.exact(area) for area in areas])

    def matched(
        self, ours: str, theirs: str, trade: Trade, *, num_rewards: int = 5
    ) -> tuple[Matched, ...]:
        """Two methods' costs at rewards that both reach with every seed they share.

        Nothing for a method with one strength: a single run is no front to read a cost from.

        Args:
            ours: the first method.
            theirs: the second.
            trade: which cost.
            num_rewards: evenly over the range of both fronts.
        """
        labels = [{c.label for c in self.cells if c.variant == v} for v in (ours, theirs)]
        if min(map(len, labels)) < 2:
            return ()
        seeds = [s for s in self.seeds_of(ours) if s in self.seeds_of(theirs)]
        pairs = [(self.points(ours, trade, s), self.points(theirs, trade, s)) for s in seeds]
        if not pairs:
            return ()
        # A front begins at its least cost, which is the base only where no run costs less than it.
        fronts = [points[pareto_front(points)] for pair in pairs for points in pair]
        low = max(float(front[0, 0]) for front in fronts)
        high = min(float(front[-1, 0]) for front in fronts)
        if high <= low:
            return ()
        rows = []
        for reward in np.linspace(low, high, num_rewards):
            costs = np.array([[cost_at(p, float(reward)) for p in pair] for pair in pairs])
            if np.isfinite(costs).all():
                mine, other = costs.mean(axis=0)
                gaps = [Interval.exact(float(gap)) for gap in costs[:, 0] - costs[:, 1]]
                rows.append(Matched(float(reward), float(mine), float(other), over_seeds(gaps)))
        return tuple(rows)


def as_json(report: ComparisonReport) -> dict[str, Any]:
    """Return the report as plain JSON values, without pictures; what is not finite is null."""
    pairs = [(a, b) for a, b in itertools.permutations(report.variants, 2)]
    return {
        "format": FORMAT,
        "title": report.title,
        "created": report.created,
        "drift_limit": report.drift_limit,
        "has_real": report.has_real,
        "environment": dict(report.environment),
        "reproduce": report.reproduce,
        "provenance": dict(report.provenance),
        "base": _cell_as_json(report.base),
        "cells": [_cell_as_json(cell) for cell in report.cells],
        "areas": {
            trade.key: {v: _interval(report.area(v, trade)) for v in report.variants}
            for trade in TRADES
        },
        "matched": {
            trade.key: {
                f"{ours} - {theirs}": [
                    {
                        "reward": m.reward,
                        "ours": m.ours,
                        "theirs": m.theirs,
                        "difference": _interval(m.difference),
                    }
                    for m in report.matched(ours, theirs, trade)
                ]
                for ours, theirs in pairs
            }
            for trade in TRADES
        },
    }


def _cell_as_json(cell: Cell) -> dict[str, Any]:
    return {
        "variant": cell.variant,
        "label": cell.label,
        "seeds": list(cell.seeds),
        "figures": {
            name: {
                "per_seed": [finite(i.value) for i in values],
                "mean": _interval(cell.mean(name)),
            }
            for name, values in cell.figures.items()
        },
        "verdicts": list(cell.verdicts),
        "stopped": list(cell.stopped),
        "failed": list(cell.failed),
        "seconds": cell.seconds,
    }


def _interval(interval: Interval) -> list[float | None]:
    return [finite(interval.value), finite(interval.low), finite(interval.high)]
