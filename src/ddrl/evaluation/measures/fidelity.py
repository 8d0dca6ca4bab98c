"""How far the generated samples are from real data, as distributions.

With Gaussians N(mu_a, A) and N(mu_b, B) fitted to two sets of features, the squared Fréchet
(2-Wasserstein) distance is

    d^2 = |mu_a - mu_b|^2 + Tr A + Tr B - 2 Tr (A^(1/2) B A^(1/2))^(1/2).

With centred data X_a = Q_a R_a scaled so that A = R_a^T R_a, the last trace is the sum of the
singular values of R_a R_b^T. No matrix root is taken, so a rank-deficient covariance (fewer
samples than features) costs no accuracy.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ddrl.errors import DataError


def frechet_distance(features_a: NDArray[np.float64], features_b: NDArray[np.float64]) -> float:
    """Return the squared Fréchet distance d^2 between Gaussians fitted to two feature sets.

    This is the figure known as FID when the features are Inception's. It is symmetric, 0 for
    equal moments, and is biased upwards for few samples: compare it only at equal sample counts.

    Args:
        features_a: (N, F) features of one set, in any unit.
        features_b: (M, F) features of the other set, in the same unit.

    Returns:
        d^2 in the square of the features' unit, never negative.

    Raises:
        DataError: fewer than two samples, features of unequal or no width, or values that are
            not finite.

    Source: Dowson and Landau, 1982; Heusel et al., arXiv 1706.08500. Covariances are unbiased.
    """
    return Reference(features_b, "second").distance(features_a, "first")


class Reference:
    """One of two feature sets, that others are measured against: its moments are taken once.

    Args:
        features: (M, F).
        which: what errors call it.

    Raises:
        DataError: as for :func:`frechet_distance`.
    """

    def __init__(self, features: NDArray[np.float64], which: str = "reference") -> None:
        checked = _checked(features, which)
        self._width = checked.shape[1]
        self._mean, self._root = _moments(checked)

    def distance(self, features: NDArray[np.float64], which: str = "other") -> float:
        """Return the squared Fréchet distance of another set, (N, F), from this one."""
        other = _checked(features, which)
        if other.shape[1] != self._width:
            raise DataError(
                f"The feature sets have different widths: {other.shape[1]} and {self._width}.",
                hint="take both from the same feature network",
            )
        mean, root = _moments(other)
        shift = float(np.sum((mean - self._mean) ** 2))
        spread = float(np.sum(root**2) + np.sum(self._root**2))
        overlap = float(np.sum(np.linalg.svd(root @ self._root.T, compute_uv=False)))
        distance = shift + spread - 2.0 * overlap
        if not math.isfinite(distance):
            raise DataError("The features are too large: their Fréchet distance overflows.")
        return max(distance, 0.0)


def _moments(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean (F,) and a root R (min(N, F), F) of the unbiased covariance, R^T R."""
    mean = features.mean(axis=0)
    centred = (features - mean) / math.sqrt(len(features) - 1)
    root = np.linalg.qr(centred, mode="reduced").R
    return mean, root


def _checked(features: NDArray[np.float64], which: str) -> NDArray[np.float64]:
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(
            f"The {which} feature set has shape {array.shape}, not (samples, features)."
        )
    if len(array) < 2:
        raise DataError(
            f"The {which} feature set holds {len(array)} sample(s): a spread needs at least two."
        )
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise DataError(f"Sample {bad} of the {which} feature set holds a value that isn't finite.")
    return array
