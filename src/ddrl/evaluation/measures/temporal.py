"""How clips move: per-frame features to figures of change over time.

With features f_1 ... f_T of a clip's frames,

- its temporal features are [mean_t f_t, mean_t |f_(t+1) - f_t|], 2 F numbers: their Fréchet
  distance to data grows when single frames look right but clips stand still or flicker;
- its change is mean_t |f_(t+1) - f_t|_2: as a ratio to data, 0 stands still, above 1 flickers;
- its consistency is mean_t cos(f_t, f_(t+1)), in [-1, 1]: 1 is a still picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddrl.errors import DataError


def temporal_features(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of a clip's frame features and of their absolute changes.

    Args:
        frames: (N, T, F) features of N clips of T frames, T at least 2.

    Returns:
        (N, 2 F), in the features' unit.

    Raises:
        DataError: another shape, one frame, or values that are not finite.
    """
    array = _checked(frames)
    return np.concatenate([array.mean(1), np.abs(np.diff(array, axis=1)).mean(1)], axis=1)


def temporal_change(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean Euclidean distance between neighbouring frames of each clip.

    Args:
        frames: as for :func:`temporal_features`.

    Returns:
        (N,), in the features' unit; 0 for a still picture.

    Raises:
        DataError: as for :func:`temporal_features`.
    """
    distances = np.linalg.norm(np.diff(_checked(frames), axis=1), axis=2)
    return np.asarray(distances.mean(1), dtype=np.float64)


def temporal_consistency(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean cosine between neighbouring frames of each clip.

    Args:
        frames: as for :func:`temporal_features`. Two equal frames have cosine 1, zeros included.

    Returns:
        (N,), in [-1, 1].

    Raises:
        DataError: as for :func:`temporal_features`.
    """
    array = _checked(frames)
    before, after = array[:, :-1], array[:, 1:]
    sizes = np.linalg.norm(before, axis=2) * np.linalg.norm(after, axis=2)
    cosine = (before * after).sum(2) / np.where(sizes > 0, sizes, 1.0)
    equal = (before == after).all(2)
    return np.asarray(np.where(equal, 1.0, cosine).mean(1), dtype=np.float64)


def _checked(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.asarray(frames, dtype=np.float64)
    if array.ndim != 3 or array.size == 0 or array.shape[1] < 2:
        raise DataError(
            f"The frames' features have shape {array.shape}, not (clips, frames, features) with at "
            "least two frames."
        )
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array).all(axis=(1, 2)))[0])
        raise DataError(f"Clip {bad} holds a feature that isn't finite.")
    return array
