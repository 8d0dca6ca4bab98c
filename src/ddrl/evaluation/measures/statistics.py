"""Intervals: how sure a measured number is, from prompts and samples that might have been others.

Samples of one prompt resemble each other, so where prompts are a sample of those that matter,
whole prompts are left out in turn; where every prompt that matters is there, samples within each
prompt are. The spread of the statistic over what was left out gives its standard error (jackknife),
and Student's t its interval: percentiles of a bootstrap over ten prompts would be too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ddrl.errors import DataError, UsageError

LEAST_FREEDOM = 4
"""Degrees of freedom below which no interval is given: five prompts have four. With fewer, t is
above 3 and grows fast, and the interval holds for normal errors only."""
MAX_PARTS = 64
"""More prompts, or samples of a prompt, than these are left out several at a time."""

Unit = Literal["prompt", "sample"]
Rows = NDArray[np.intp]
Statistic = Callable[[Rows], float]


@dataclass(frozen=True)
class Basis:
    """What an interval is made from.

    Attributes:
        unit: what was left out in turn: whole prompts, or samples within every prompt.
        num_prompts: prompts with a value.
        num_samples: samples with a value.
    """

    unit: Unit
    num_prompts: int
    num_samples: int


def finite(value: float | None) -> float | None:
    """Return a number as JSON has it: None where it is not known or not finite."""
    return float(value) if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Interval:
    """A measured value and the interval around it.

    Attributes:
        value: the statistic of the data as measured.
        low: lower end of the interval, in the value's unit; NaN where there is no interval.
        high: upper end of the interval, in the value's unit; NaN where there is no interval.
        basis: what it is made from; None where that is not known.
    """

    value: float
    low: float
    high: float
    basis: Basis | None = field(default=None, compare=False)

    @classmethod
    def exact(cls, value: float) -> Interval:
        """Return an interval of no width, for a number that has no sampling error."""
        return cls(value, value, value)

    @classmethod
    def alone(cls, value: float, basis: Basis | None = None) -> Interval:
        """Return a value whose sampling error is not known: it has no interval."""
        return cls(value, math.nan, math.nan, basis)

    @property
    def is_finite(self) -> bool:
        """Whether all three numbers are finite."""
        return math.isfinite(self.value) and self.has_ends

    @property
    def has_ends(self) -> bool:
        """Whether there is an interval at all."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def jackknife_interval(
    statistic: Statistic,
    prompt_id: NDArray[np.int64],
    *,
    unit: Unit,
    stratum: NDArray[np.int64] | None = None,
    level: float = 0.95,
) -> Interval:
    """Student's interval around a statistic, with the jackknife's standard error.

    With the statistic T, and T_j of all rows but those of part j of m,

        SE^2 = (m - 1) / m  sum_j (T_j - mean T)^2,    T +- t(m - 1) SE.

    Part j is a prompt, or the j-th sample of every prompt; where there are more than 64, or more
    than the smallest prompt has, they are dealt into so many parts.

    Args:
        statistic: row numbers, ascending, to a number. It need not be linear, but smooth.
        prompt_id: (N,) the prompt of every row.
        unit: what is drawn at random, and so left out. Where a prompt has fewer than five samples
            it is prompts, which is too wide rather than too narrow.
        stratum: (N,) for unit ``sample``: what the rows are drawn within; default: prompts.
        level: probability that the interval is meant to hold, in (0, 1).

    Returns:
        The statistic of all rows with its interval: without ends where there are fewer than four
        degrees of freedom, or where the statistic is not finite.

    Raises:
        DataError: no rows.
        UsageError: `level` out of range.

    Source: Shao and Tu, The Jackknife and Bootstrap, 1995, chapters 2 and 6.
    """
    if not 0.0 < level < 1.0:
        raise UsageError(f"The level of an interval lies between 0 and 1, not at {level}.")
    prompts = np.asarray(prompt_id)
    if not len(prompts):
        raise DataError("An interval needs at least one sample.")
    strata = prompts if stratum is None else np.asarray(stratum)
    counts = np.unique(strata, return_counts=True)[1]
    if counts.min() <= LEAST_FREEDOM:
        unit = "prompt"
    basis = Basis(unit, len(np.unique(prompts)), len(prompts))
    value = float(statistic(np.arange(len(prompts))))
    part = _parts(unit, prompts, strata)
    freedom = int(part.max())
    if freedom < LEAST_FREEDOM or not math.isfinite(value):
        return Interval.alone(value, basis)
    without = np.array([statistic(np.flatnonzero(part != one)) for one in range(freedom + 1)])
    spread = float(np.sum((without - without.mean()) ** 2))
    if not math.isfinite(spread):
        return Interval.alone(value, basis)
    error = math.sqrt(freedom / (freedom + 1) * spread)
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    return Interval(value, value - half, value + half, basis)


@dataclass(frozen=True)
class Beside:
    """N samples of a model and M real ones of the same prompts, both drawn at random.

    Attributes:
        prompt_id: (N,) the prompt of every sample.
        real_id: (M,) of every real one; those of other prompts are never looked at.
        unit: as for :func:`jackknife_interval`. What is left out is left out on both sides.
    """

    prompt_id: NDArray[np.int64]
    real_id: NDArray[np.int64]
    unit: Unit

    def interval(
        self, statistic: Callable[[Rows, Rows], float], *, level: float = 0.95
    ) -> Interval:
        """Return the interval of a statistic of sample rows and real rows."""
        num, real_rows = len(self.prompt_id), np.flatnonzero(np.isin(self.real_id, self.prompt_id))
        ids = np.concatenate([self.prompt_id, self.real_id[real_rows]])
        side = np.arange(len(ids)) >= num

        def of_both(rows: Rows) -> float:
            mine, theirs = rows[rows < num], real_rows[rows[rows >= num] - num]
            return statistic(mine, theirs) if min(len(mine), len(theirs)) else math.nan

        stratum = 2 * ids + side
        found = jackknife_interval(of_both, ids, unit=self.unit, stratum=stratum, level=level)
        assert found.basis is not None
        return replace(found, basis=replace(found.basis, num_samples=num))


def mean_interval(
    values: NDArray[np.float64],
    prompt_id: NDArray[np.int64],
    *,
    unit: Unit,
    level: float = 0.95,
) -> Interval:
    """Return the mean of the finite values with its interval; NaN where there are none.

    Args:
        values: (N,), NaN where a sample has none.
        prompt_id: (N,) the prompt of each.
        unit: as for :func:`jackknife_interval`.
        level: as for :func:`jackknife_interval`.
    """
    known = np.isfinite(values)
    numbers = values[known]
    if not len(numbers):
        return Interval.alone(math.nan)
    return jackknife_interval(
        lambda rows: float(numbers[rows].mean()), prompt_id[known], unit=unit, level=level
    )


def over_seeds(per_seed: Sequence[Interval]) -> Interval:
    """Return the mean over seeds of training, with an interval over seeds and prompts.

    All seeds are measured on the same prompts and noise, whose error therefore does not average
    out: the half width is the root of the squares of t(n - 1) s / sqrt(n) over n seeds and of the
    mean half width of their own intervals.

    Args:
        per_seed: one for each seed; those without a value are left out.

    Returns:
        The mean and its 95 % interval; of one seed its own, which is no interval where it has no
        width. Without ends where a seed's interval has none; NaN where no seed has a value.
    """
    known = [interval for interval in per_seed if math.isfinite(interval.value)]
    if not known:
        return Interval.alone(math.nan)
    values = np.array([interval.value for interval in known])
    mean = float(values.mean())
    own = float(np.mean([(interval.high - interval.low) / 2 for interval in known]))
    if len(known) == 1:
        return known[0] if own > 0 else Interval.alone(mean)
    if not math.isfinite(own):
        return Interval.alone(mean)
    between = float(values.std(ddof=1)) / math.sqrt(len(known))
    half = math.hypot(float(stdtrit(len(known) - 1, 0.975)) * between, own)
    return Interval(mean, mean - half, mean + half)


def _parts(unit: Unit, prompts: NDArray[np.int64], strata: NDArray[np.int64]) -> Rows:
    """(N,) the part, 0 to m - 1, that each row is left out with."""
    if unit == "prompt":
        return np.unique(prompts, return_inverse=True)[1] % MAX_PARTS
    kinds, place, counts = np.unique(strata, return_inverse=True, return_counts=True)
    rank = np.empty(len(strata), dtype=np.intp)
    for kind in range(len(kinds)):
        rank[place == kind] = np.arange(counts[kind])
    return rank % min(int(counts.min()), MAX_PARTS)
