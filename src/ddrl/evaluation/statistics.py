"""Bootstrap intervals: how sure a measured number is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddrl.errors import DataError, UsageError

__all__ = ["Interval", "bootstrap_interval", "clustered_bootstrap_interval", "over_seeds"]

_SEED_RESAMPLES = 2000
_WIDTH = 2 * 1.959964  # of a 95 % interval, in standard deviations

Statistic = Callable[[NDArray[np.float64]], Any]


@dataclass(frozen=True)
class Interval:
    """A measured value and the interval around it.

    `low <= value <= high` is usual but not enforced: a biased statistic may fall outside of its
    own percentile interval.

    Attributes:
        value: the statistic of the data as measured.
        low: lower end of the interval, in the value's unit.
        high: upper end of the interval, in the value's unit.
    """

    value: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> Interval:
        """An interval of no width, for a number that has no sampling error."""
        return cls(value, value, value)

    @property
    def is_finite(self) -> bool:
        """Whether all three numbers are finite."""
        return all(map(math.isfinite, (self.value, self.low, self.high)))


def bootstrap_interval(
    values: NDArray[np.float64],
    statistic: Statistic = np.mean,
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
    recentre: bool = False,
    seed: int,
) -> Interval:
    """The percentile bootstrap interval of a statistic over independent samples.

    Args:
        values: (N,) or (N, ...) samples; rows are drawn with replacement.
        statistic: maps an array like `values` to one number.
        num_resamples: how many resampled data sets are drawn.
        level: probability that the interval is meant to hold, in (0, 1).
        recentre: shift the interval by the bootstrap's own bias, mean(resampled) - value. Needed
            where repeated samples change the statistic (the Fréchet distance grows with them).
        seed: of a private generator; numpy's global state is neither read nor changed.

    Returns:
        The statistic of `values` and the ends of its interval.

    Raises:
        DataError: no samples, or a sample that is not finite.
        UsageError: `level` or `num_resamples` out of range.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    samples = _checked(values)
    return _bootstrap(samples, None, statistic, num_resamples, level, recentre, seed)


def clustered_bootstrap_interval(
    values: NDArray[np.float64],
    cluster: NDArray[np.int64],
    statistic: Statistic = np.mean,
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
    recentre: bool = False,
    seed: int,
) -> Interval:
    """The percentile bootstrap interval where whole clusters (prompts) are drawn.

    Samples of one prompt resemble each other, so that drawing single samples would promise too
    narrow an interval. A cluster that is drawn twice appears twice, with all of its rows: a
    statistic of pairs inside a cluster (diversity) needs one value per cluster as its input.

    Args:
        values: (N,) or (N, ...) samples.
        cluster: (N,) integer id of each sample's cluster.
        statistic: maps an array like `values` to one number.
        num_resamples: how many resampled data sets are drawn.
        level: probability that the interval is meant to hold, in (0, 1).
        recentre: as in `bootstrap_interval`.
        seed: of a private generator.

    Returns:
        The statistic of `values` and the ends of its interval.

    Raises:
        DataError: no samples, a sample that is not finite, or clusters of another shape.
        UsageError: `level` or `num_resamples` out of range.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.
    """
    samples = _checked(values)
    ids = np.asarray(cluster)
    if ids.shape != (len(samples),):
        raise DataError(
            f"the clusters have shape {ids.shape}; one id for each of the {len(samples)} samples "
            "is needed."
        )
    order = np.argsort(ids, kind="stable")
    starts = np.flatnonzero(np.diff(ids[order])) + 1
    members = np.split(order, starts)
    return _bootstrap(samples, members, statistic, num_resamples, level, recentre, seed)


def over_seeds(per_seed: Sequence[Interval]) -> Interval:
    """The mean over seeds, with an interval over seeds and over what each seed's interval is over.

    Seeds are drawn with replacement; to each drawn value a normal error of the width of its own
    interval is added. With few seeds (three) it can't be wider than these show.

    Args:
        per_seed: one interval for each seed; those that are not finite are left out.

    Returns:
        The mean and its 95 % interval; NaN where no seed has figures.
    """
    known = [interval for interval in per_seed if interval.is_finite]
    if not known:
        return Interval.exact(math.nan)
    values = np.array([interval.value for interval in known])
    errors = np.array([(interval.high - interval.low) / _WIDTH for interval in known])
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(known), size=(_SEED_RESAMPLES, len(known)))
    noise = rng.normal(size=drawn.shape)
    means = (values[drawn] + errors[drawn] * noise).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def _bootstrap(
    samples: NDArray[np.float64],
    members: list[NDArray[np.intp]] | None,
    statistic: Statistic,
    num_resamples: int,
    level: float,
    recentre: bool,
    seed: int,
) -> Interval:
    """Draw from `members`, the rows of each unit that is resampled as a whole; None: each row."""
    if not 0.0 < level < 1.0:
        raise UsageError(f"the level of an interval lies between 0 and 1, not at {level}.")
    if num_resamples < 1:
        raise UsageError(f"at least one resample is needed, not {num_resamples}.")
    rng = np.random.default_rng(seed)
    num_units = len(samples) if members is None else len(members)
    value = float(statistic(samples))
    resampled = np.empty(num_resamples)
    for i in range(num_resamples):
        drawn = rng.integers(num_units, size=num_units)
        rows = drawn if members is None else np.concatenate([members[j] for j in drawn])
        resampled[i] = float(statistic(samples[rows]))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    shift = value - float(resampled.mean()) if recentre else 0.0
    return Interval(value, float(low) + shift, float(high) + shift)


def _checked(values: NDArray[np.float64]) -> NDArray[np.float64]:
    samples = np.asarray(values, dtype=np.float64)
    if samples.ndim == 0 or len(samples) == 0:
        raise DataError("an interval needs at least one sample.")
    if not np.isfinite(samples).all():
        raise DataError("an interval needs finite samples, and at least one of these isn't.")
    return samples
