"""How varied a run's samples of one prompt are, against real data of the same prompts and the base.

Both sides of a ratio are of the same prompts and of equal numbers of samples, so that a perfect
model has a ratio of 1. Within prompts, where most have several real samples; else over prompts:
as many of each prompt on both sides as every prompt has, usually one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from ddrl.evaluation.measures.result import UNKNOWN
from ddrl.evaluation.measures.statistics import Beside, Interval, Rows, Unit

MAX_VENDI = 128  # samples in a Vendi score, which costs an eigendecomposition of their kernel
MAX_PAIRED = 512  # samples of a prompt whose distances are taken, which are as many squared
JOINT = 0.975  # of the two changes, so that both hold at 95 % where either is a sign
MAX_DRAWN = 4  # sets of samples whose figures over prompts are averaged

Numbers = NDArray[np.float64]
Ids = NDArray[np.int64]
_Figures = tuple[float, float]  # mean distance, Vendi score


@dataclass(frozen=True)
class Variety:
    """Variety as ratios to real data.

    Attributes:
        diversity: mean distance between two samples.
        vendi: effective number of different samples.
        diversity_change: the ratio less the base's, paired by prompt and noise; the interval holds
            at 95 % for both changes together.
        vendi_change: as ``diversity_change``, of ``vendi``.
        real_vendi: effective number of different samples in real data, which `vendi` is a ratio to.
    """

    diversity: Interval = UNKNOWN
    vendi: Interval = UNKNOWN
    diversity_change: Interval = UNKNOWN
    vendi_change: Interval = UNKNOWN
    real_vendi: float = math.nan


def measure_variety(
    features: Numbers,
    base: Numbers,
    prompt_id: Ids,
    real: Numbers,
    real_id: Ids,
    *,
    unit: Unit,
) -> Variety:
    """Return the variety of a model's samples, against real data and the base.

    Args:
        features: (N, F) of the model's samples.
        base: (N, F) of the base's samples of the same prompts and noise.
        prompt_id: (N,) the prompt of each.
        real: (M, F) of real data; that of other prompts is left out.
        real_id: (M,) the prompt of each.
        unit: what the intervals are over.

    Returns:
        The ratios; NaN where real data has no variety or no prompt has two samples.
    """
    shared = np.intersect1d(prompt_id, real_id)
    several = np.intersect1d(_several(prompt_id), _several(real_id))
    is_within = len(several) > 0 and 2 * len(several) >= len(np.unique(prompt_id))
    prompts = several if is_within else shared
    if not is_within and len(prompts) < 2:
        return Variety()
    mine, theirs = np.isin(prompt_id, prompts), np.isin(real_id, prompts)
    sets = features[mine], base[mine], real[theirs]
    ids = prompt_id[mine], real_id[theirs]
    beside = Beside(*ids, unit="prompt" if not is_within else unit)
    figures = (_within if is_within else _between)(sets, *ids)
    known: dict[bytes, NDArray[np.float64]] = {}

    def at(rows: Rows, real_rows: Rows) -> NDArray[np.float64]:
        key = rows.tobytes() + b"/" + real_rows.tobytes()
        if key not in known:
            known[key] = figures(rows, real_rows)
        return known[key]

    def ratio(figure: int, less: int | None) -> Interval:
        def statistic(rows: Rows, real_rows: Rows) -> float:
            run, before, wanted = at(rows, real_rows)[:, figure]
            return float((run - (0.0 if less is None else before)) / wanted) if wanted else math.nan

        return beside.interval(statistic, level=0.95 if less is None else JOINT)

    everything = at(np.arange(len(ids[0])), np.arange(len(ids[1])))
    real_vendi = float(everything[2, 1])
    return Variety(ratio(0, None), ratio(1, None), ratio(0, 1), ratio(1, 1), real_vendi)


def _several(ids: Ids) -> Ids:
    """Return the prompts that have two samples or more."""
    kinds, counts = np.unique(ids, return_counts=True)
    return kinds[counts >= 2]


_Sets = tuple[Numbers, Numbers, Numbers]
_At = Callable[[Rows, Rows], NDArray[np.float64]]


def _within(sets: _Sets, prompt_id: Ids, real_id: Ids) -> _At:
    """Kept rows to the figures (3, 2) of run, base and real data: means over prompts."""
    prompts = np.unique(prompt_id)
    places = [
        (np.flatnonzero(prompt_id == one)[:MAX_PAIRED], np.flatnonzero(real_id == one)[:MAX_PAIRED])
        for one in prompts
    ]
    pairs = [
        [squareform(pdist(x[at])) for x, at in zip(sets, (mine, mine, theirs), strict=True)]
        for mine, theirs in places
    ]
    width = _width([one[2] for one in pairs])
    known: dict[tuple[int, bytes, bytes], NDArray[np.float64]] = {}

    def of_prompt(place: int, mine: Rows, theirs: Rows) -> NDArray[np.float64]:
        key = (place, mine.tobytes(), theirs.tobytes())
        if key not in known:
            # The same samples of a prompt at every call, however many are left out.
            size = min(*map(len, places[place]), MAX_VENDI)
            cut = [mine[mine < size], theirs[theirs < size]]
            num = min(map(len, cut))
            kept = (mine, cut[0][:num]), (mine, cut[0][:num]), (theirs, cut[1][:num])
            known[key] = np.array(
                [
                    (_distance(matrix, all_of), _vendi(matrix, some, width))
                    for matrix, (all_of, some) in zip(pairs[place], kept, strict=True)
                ]
            )
        return known[key]

    def at(rows: Rows, real_rows: Rows) -> NDArray[np.float64]:
        found = []
        for place, (mine, theirs) in enumerate(places):
            kept = np.flatnonzero(np.isin(mine, rows)), np.flatnonzero(np.isin(theirs, real_rows))
            if min(map(len, kept)) >= 2:
                found.append(of_prompt(place, *kept))
        means: NDArray[np.float64] = np.mean(found, axis=0)
        return means

    return at


def _between(sets: _Sets, prompt_id: Ids, real_id: Ids) -> _At:
    """Return the same over all prompts together, of equally many samples of each."""
    prompts = np.unique(prompt_id)
    counts = [np.unique(ids, return_counts=True)[1].min() for ids in (prompt_id, real_id)]
    each = int(min(counts))
    drawn = []  # for run, base, data: distances of each set of samples
    every = zip(sets, (prompt_id, prompt_id, real_id), (counts[0], *counts), strict=True)
    for x, ids, count in every:
        rows = np.stack([np.flatnonzero(ids == one)[:count] for one in prompts])
        num = min(count // each, MAX_DRAWN)
        parts = [rows[:, i * each : (i + 1) * each].ravel() for i in range(num)]
        drawn.append([squareform(pdist(x[part])) for part in parts])
    width = _width(drawn[2])

    def at(rows: Rows, real_rows: Rows) -> NDArray[np.float64]:  # noqa: ARG001
        kept = np.flatnonzero(np.repeat(np.isin(prompts, prompt_id[rows]), each))
        some = kept[kept < MAX_VENDI]
        return np.array(
            [
                np.mean([(_distance(one, kept), _vendi(one, some, width)) for one in of], axis=0)
                for of in drawn
            ]
        )

    return at


def _width(matrices: list[Numbers]) -> float:
    """Return the median distance of real samples, which is the same for every model."""
    return float(np.median(np.concatenate([squareform(one) for one in matrices])))


def _distance(matrix: Numbers, rows: Rows) -> float:
    kept = matrix[np.ix_(rows, rows)]
    num = len(rows)
    return float(kept.sum() / (num * (num - 1))) if num > 1 else math.nan


def _vendi(matrix: Numbers, rows: Rows, width: float) -> float:
    if width <= 0:
        return math.nan
    kept = matrix[np.ix_(rows, rows)]
    return vendi_of_kernel(np.exp(-(kept**2) / (2 * width**2)))


def vendi_of_kernel(kernel: Numbers) -> float:
    """Return the effective number of different samples: exp of the eigenvalues' entropy.

    With the eigenvalues lambda of K / n, which sum to 1: VS = exp(-sum lambda log lambda). It is 1
    for n equal samples and n for samples that are nothing alike, so that it can be compared at
    equal n only.

    Args:
        kernel: shape (n, n), how alike two samples are; its diagonal is 1.

    Source: Friedman and Dieng, The Vendi Score, arXiv 2210.02410, definition 3.1.
    """
    shares = np.clip(np.linalg.eigvalsh(kernel / len(kernel)), 0.0, None)
    known = shares[shares > 0.0]
    return float(np.exp(-np.sum(known * np.log(known))))
