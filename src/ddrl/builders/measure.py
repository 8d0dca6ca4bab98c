"""A model's samples to its row of the audit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ddrl.builders.bench import Bench, Values
from ddrl.evaluation.diversity import group_diversity, group_vendi, median_distance
from ddrl.evaluation.fidelity import frechet_distance
from ddrl.evaluation.pixels import RANGES, centre_and_spread
from ddrl.evaluation.result import Measured, PixelShift
from ddrl.evaluation.statistics import Interval, bootstrap_interval
from ddrl.evaluation.temporal import temporal_change, temporal_consistency, temporal_features

__all__ = [
    "diversity_ratios",
    "drift_interval",
    "frechet_interval",
    "mean_interval",
    "measured",
    "pixel_shifts",
    "temporal_figures",
]

NUM_RESAMPLES = 300  # each Fréchet distance costs an eigendecomposition
MAX_VENDI = 128  # samples of a prompt; a Vendi score costs an eigendecomposition of their kernel
UNKNOWN = Interval.exact(math.nan)

Numbers = NDArray[np.float64]


def measured(bench: Bench, values: Values, base: Values) -> tuple[Measured, ...]:
    """Judges and held-out rewards, with their paired changes against the base."""
    seed = bench.recipe.evaluation.seed
    found = []
    for name, numbers in values.measures.items():
        before = base.measures[name]
        both = np.isfinite(numbers) & np.isfinite(before)
        changes = numbers[both] - before[both]
        found.append(
            Measured(
                name=name,
                kind="judge" if name in bench.judges else "held-out reward",
                value=mean_interval(numbers, seed=seed),
                change=mean_interval(changes, seed=seed),
                scale=float(np.std(before[both])) if both.any() else math.nan,
                cause=values.causes.get(name, ""),
            )
        )
    return tuple(found)


def mean_interval(numbers: Numbers, *, seed: int) -> Interval:
    """The mean of the finite numbers; NaN where there are none."""
    known = numbers[np.isfinite(numbers)]
    return bootstrap_interval(known, seed=seed) if len(known) else UNKNOWN


def pixel_shifts(bench: Bench, values: Values, base: Values) -> tuple[PixelShift, ...]:
    """Each statistic of pixels beside real data, and how much farther from it than the base."""
    seed = bench.recipe.evaluation.seed
    found = []
    for name, numbers in values.pixels.items():
        mean, spread = centre_and_spread(bench.real.pixels[name], largest=RANGES[name])

        def shift(rows: Numbers, mean: float = mean, spread: float = spread) -> float:
            return (float(rows.mean()) - mean) / spread

        def moved(pairs: Numbers, shift: Callable[[Numbers], float] = shift) -> float:
            return abs(shift(pairs[:, 0])) - abs(shift(pairs[:, 1]))

        pairs = np.stack([numbers, base.pixels[name]], axis=1)
        found.append(
            PixelShift(
                name=name,
                mean=float(numbers.mean()),
                data=mean,
                difference=bootstrap_interval(
                    numbers, shift, num_resamples=NUM_RESAMPLES, seed=seed
                ),
                moved=bootstrap_interval(pairs, moved, num_resamples=NUM_RESAMPLES, seed=seed),
            )
        )
    return tuple(found)


def frechet_interval(features: Numbers, real: Numbers, *, seed: int) -> Interval:
    """The Fréchet distance to real features; NaN where these are fewer than two."""
    if len(real) < 2 or len(features) < 2:
        return UNKNOWN

    def distance(rows: Numbers) -> float:
        return frechet_distance(rows, real)

    return bootstrap_interval(
        features, distance, num_resamples=NUM_RESAMPLES, recentre=True, seed=seed
    )


def diversity_ratios(bench: Bench, values: Values, prompt_id: NDArray[np.int64]) -> list[Interval]:
    """Mean distance and Vendi score as ratios to the held-out data; intervals are over prompts.

    Within prompts where every one has several real samples, else over all of them together; NaN
    where the held-out data has no variety.
    """
    features, real = values.features, bench.real.features
    if not np.ptp(real, axis=0).any():
        return [UNKNOWN, UNKNOWN]
    real_id = bench.real.prompt_id
    counts = np.bincount(real_id, minlength=len(bench.corpus.heldout.captions))
    if counts.min() < 2 or len(bench.prompts) < len(counts):
        prompt_id, real_id = np.zeros_like(prompt_id), np.zeros_like(real_id)
    size = min(int(np.bincount(ids).min()) for ids in (prompt_id, real_id))
    # Only real data sets the bandwidth, so that it is the same for every model.
    width = median_distance(real, real_id)
    distances = [group_diversity(x, ids)[1] for x, ids in ((features, prompt_id), (real, real_id))]
    ratios = [_ratio(distances, bench.recipe.evaluation.seed)]
    if width <= 0:
        return [*ratios, UNKNOWN]
    vendi = [
        group_vendi(x, ids, size=min(size, MAX_VENDI), kernel="rbf", bandwidth=width)[1]
        for x, ids in ((features, prompt_id), (real, real_id))
    ]
    return [*ratios, _ratio(vendi, bench.recipe.evaluation.seed)]


def temporal_figures(bench: Bench, values: Values) -> list[Interval]:
    """Fréchet distance of temporal features, change and consistency as ratios; NaN for images."""
    frames, real, seed = values.frames, bench.real.frames, bench.recipe.evaluation.seed
    if frames is None or real is None or min(frames.shape[1], real.shape[1]) < 2:
        return [UNKNOWN, UNKNOWN, UNKNOWN]
    distance = frechet_interval(temporal_features(frames), temporal_features(real), seed=seed)
    ratios = []
    for figure in (temporal_change, temporal_consistency):
        wanted = float(figure(real).mean())
        ratios.append(
            bootstrap_interval(figure(frames) / wanted, seed=seed) if wanted > 0 else UNKNOWN
        )
    return [distance, *ratios]


def drift_interval(losses: Numbers, base: Numbers, *, seed: int) -> Interval:
    """Change of the held-out loss; the interval pairs each sample with itself at the base."""

    def change(rows: Numbers) -> float:
        return float(rows[:, 0].mean() / rows[:, 1].mean() - 1)

    return bootstrap_interval(np.stack([losses, base], axis=1), change, seed=seed)


def _ratio(figures: Sequence[Numbers], seed: int) -> Interval:
    """Mean over prompts of the samples' figures over that of real data's."""

    def ratio(rows: Numbers) -> float:
        varied, wanted = rows.mean(axis=0)
        return float(varied / wanted) if wanted else math.nan

    return bootstrap_interval(np.stack(figures, axis=1), ratio, seed=seed)
