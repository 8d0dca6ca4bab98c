"""What a gain in reward costs: Pareto fronts of runs, their area, and the cost at a reward.

A point is (reward, cost): more reward and less cost are better. Where more is better of the second
figure, too (diversity), its negative is the cost.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ddrl.errors import DataError


def pareto_front(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the points that no other point beats in one figure without losing in the other.

    Args:
        points: (N, 2), (reward, cost).

    Returns:
        Their rows in ascending reward, which is also ascending cost. Of equal points the first.

    Raises:
        DataError: another shape, or values that are not finite.
    """
    array = _checked(points)
    # Best reward first; among equal rewards the least cost first, among equal points the first row.
    order = np.lexsort((np.arange(len(array)), array[:, 1], -array[:, 0]))
    kept, least = [], math.inf
    for row in order:
        if array[row, 1] < least:
            kept.append(int(row))
            least = float(array[row, 1])
    return np.array(kept[::-1], dtype=np.int64)


def hypervolume(points: NDArray[np.float64], reference: tuple[float, float]) -> float:
    """Return the area that the points dominate, down to a reference point; exact.

    Args:
        points: (N, 2), (reward, cost); those that do not beat the reference in both add nothing.
        reference: the worst (reward, cost) that counts; fronts are compared at one reference.

    Returns:
        The area, in units of reward times cost.

    Raises:
        DataError: as for :func:`pareto_front`.

    Source: Zitzler and Thiele, PPSN 1998, in two dimensions.
    """
    array = _checked(points)
    inside = array[(array[:, 0] > reference[0]) & (array[:, 1] < reference[1])]
    if not len(inside):
        return 0.0
    front = inside[pareto_front(inside)]
    left = np.concatenate([[reference[0]], front[:-1, 0]])
    return float(np.sum((front[:, 0] - left) * (reference[1] - front[:, 1])))


def cost_at(points: NDArray[np.float64], reward: float) -> float:
    """Return the cost at a reward, by linear interpolation between neighbours on the front.

    Args:
        points: (N, 2), (reward, cost).
        reward: where to read the cost.

    Returns:
        The cost; NaN outside of the front's rewards, because nothing was measured there.

    Raises:
        DataError: as for :func:`pareto_front`.
    """
    array = _checked(points)
    front = array[pareto_front(array)]
    if not front[0, 0] <= reward <= front[-1, 0]:
        return math.nan
    return float(np.interp(reward, front[:, 0], front[:, 1]))


def _checked(points: NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise DataError(f"The points have shape {array.shape}, not (runs, 2).")
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise DataError(f"Point {bad} holds a figure that isn't finite.")
    return array
