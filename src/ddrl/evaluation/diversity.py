"""How varied the samples of one prompt are, beside real data of that prompt.

A model that hacks a reward usually repeats its winning picture. The figure is compared with real
data and never with the base model, whose variety may come from ignoring the prompt.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from ddrl.errors import DataError

__all__ = ["diversity_ratio", "group_diversity", "within_group_diversity"]


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
