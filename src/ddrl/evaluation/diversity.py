"""How varied the samples of one prompt are, beside real data of that prompt.

A model that hacks a reward usually repeats its winning picture. The figure is compared with real
data and never with the base model, whose variety may come from ignoring the prompt.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from ddrl.errors import DataError, UsageError

__all__ = [
    "Kernel",
    "diversity_ratio",
    "group_diversity",
    "group_vendi",
    "median_distance",
    "vendi_of_kernel",
    "vendi_score",
    "within_group_diversity",
]

Kernel = Literal["cosine", "rbf"]
"""How alike two samples are: cosine of their features, or exp(-d^2 / (2 bandwidth^2))."""


def group_diversity(
    features: NDArray[np.float64], group: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The mean pairwise Euclidean distance inside each group.

    Args:
        features: (N, F) features, in any unit.
        group: (N,) integer id of each sample's group (its prompt).

    Returns:
        The group ids (G,) in ascending order, and their mean distances (G,) in the features' unit.

    Raises:
        DataError: shapes that do not fit, a value that is not finite, or a group of one sample.
    """
    array, ids, unique = _checked(features, group)
    means = [float(pdist(array[ids == one]).mean()) for one in unique]
    return unique.astype(np.int64), np.array(means, dtype=np.float64)


def within_group_diversity(features: NDArray[np.float64], group: NDArray[np.int64]) -> float:
    """The mean over groups of the mean pairwise Euclidean distance inside each group.

    Each group has the same weight, whatever its size. The order of samples and the numbers used
    as ids do not matter.

    Args:
        features: (N, F) features, in any unit.
        group: (N,) integer id of each sample's group (its prompt).

    Returns:
        The mean distance in the features' unit; 0 when each group repeats one sample.

    Raises:
        DataError: as for `group_diversity`.
    """
    return float(group_diversity(features, group)[1].mean())


def diversity_ratio(
    generated: NDArray[np.float64],
    gen_group: NDArray[np.int64],
    real: NDArray[np.float64],
    real_group: NDArray[np.int64],
) -> float:
    """The diversity of generated samples divided by that of real data for the same groups.

    Args:
        generated: (N, F) features of generated samples.
        gen_group: (N,) their group ids.
        real: (M, F) features of real data.
        real_group: (M,) their group ids. Groups that were not generated are left out.

    Returns:
        A number without unit: 1 is as varied as real data, 0 is one picture for each prompt.

    Raises:
        DataError: as for `group_diversity`; a generated group without real data; or real data
            without any variety.
    """
    wanted, varied = group_diversity(generated, gen_group)
    ids = np.asarray(real_group)
    missing = np.setdiff1d(wanted, ids)
    if len(missing):
        raise DataError(
            f"group {int(missing[0])} was generated but has no real data to compare it with."
        )
    keep = np.isin(ids, wanted)
    real_diversity = within_group_diversity(np.asarray(real)[keep], ids[keep])
    if real_diversity <= 0.0:
        raise DataError("the real data of each group are all equal: there is no ratio to them.")
    return float(varied.mean()) / real_diversity


def vendi_score(
    features: NDArray[np.float64], *, kernel: Kernel = "cosine", bandwidth: float = 1.0
) -> float:
    """The effective number of different samples: exp of the entropy of the kernel's eigenvalues.

    With K_ij = k(x_i, x_j), k(x, x) = 1, and the eigenvalues lambda of K / n, which sum to 1:
    VS = exp(-sum lambda log lambda). It is 1 for n equal samples and n for samples that are nothing
    alike, so that it can be compared at equal n only.

    Args:
        features: (n, F) features. For ``cosine`` a row of zeros is like nothing else.
        kernel: ``cosine`` or ``rbf``.
        bandwidth: of ``rbf``, in the features' unit.

    Returns:
        A number in [1, n].

    Raises:
        DataError: no features, or values that are not finite.
        UsageError: a bandwidth that is not positive.

    Source: Friedman and Dieng, The Vendi Score, arXiv 2210.02410, definition 3.1.
    """
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2 or array.size == 0 or not np.isfinite(array).all():
        raise DataError(
            f"a Vendi score needs finite features (samples, features), not {array.shape}."
        )
    if kernel == "cosine":
        norms = np.linalg.norm(array, axis=1, keepdims=True)
        unit = array / np.where(norms > 0, norms, 1.0)
        matrix = unit @ unit.T
        np.fill_diagonal(matrix, 1.0)
    else:
        if not bandwidth > 0.0:
            raise UsageError(f"the bandwidth of a kernel must be positive, not {bandwidth}.")
        matrix = np.exp(-squareform(pdist(array, "sqeuclidean")) / (2.0 * bandwidth**2))
    return vendi_of_kernel(matrix)


def vendi_of_kernel(kernel: NDArray[np.float64]) -> float:
    """The Vendi score of n samples by their kernel (n, n), whose diagonal is 1."""
    shares = np.clip(np.linalg.eigvalsh(kernel / len(kernel)), 0.0, None)
    known = shares[shares > 0.0]
    return float(np.exp(-np.sum(known * np.log(known))))


def group_vendi(
    features: NDArray[np.float64],
    group: NDArray[np.int64],
    *,
    size: int,
    kernel: Kernel = "cosine",
    bandwidth: float = 1.0,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The Vendi score inside each group, over the first ``size`` samples of each.

    Args:
        features: (N, F) features.
        group: (N,) integer id of each sample's group.
        size: samples of each group that are taken, the same for all.
        kernel: as for :func:`vendi_score`.
        bandwidth: likewise.

    Returns:
        The group ids (G,) in ascending order, and their scores (G,).

    Raises:
        DataError: as for `group_diversity`, or a group of fewer than ``size`` samples.
    """
    array, ids, unique = _checked(features, group)
    scores = []
    for one in unique:
        rows = np.flatnonzero(ids == one)[:size]
        if len(rows) < size:
            raise DataError(f"group {int(one)} holds {len(rows)} samples, and {size} are compared.")
        scores.append(vendi_score(array[rows], kernel=kernel, bandwidth=bandwidth))
    return unique.astype(np.int64), np.array(scores, dtype=np.float64)


def median_distance(features: NDArray[np.float64], group: NDArray[np.int64]) -> float:
    """The median distance between two samples of one group: a bandwidth that fits the data.

    Raises:
        DataError: as for `group_diversity`.
    """
    array, ids, unique = _checked(features, group)
    return float(np.median(np.concatenate([pdist(array[ids == one]) for one in unique])))


def _checked(
    features: NDArray[np.float64], group: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Features, group ids, and the distinct ids in ascending order."""
    array = np.asarray(features, dtype=np.float64)
    ids = np.asarray(group)
    if array.ndim != 2 or array.size == 0:
        raise DataError(f"the features have shape {array.shape}, not (samples, features).")
    if ids.shape != (len(array),) or not np.issubdtype(ids.dtype, np.integer):
        raise DataError(
            f"the groups have shape {ids.shape} and type {ids.dtype}; "
            f"one integer for each of the {len(array)} samples is needed."
        )
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise DataError(f"sample {bad} holds a feature that isn't finite.")
    unique, counts = np.unique(ids, return_counts=True)
    if counts.min() < 2:
        alone = int(unique[counts.argmin()])
        raise DataError(
            f"group {alone} holds one sample: a pairwise distance needs two.",
            hint="generate at least two samples for each prompt.",
        )
    return array, ids, unique
