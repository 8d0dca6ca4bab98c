from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ddrl.errors import DataError
from ddrl.evaluation.measures.fidelity import frechet_distance
from ddrl.evaluation.measures.temporal import (
    temporal_change,
    temporal_consistency,
    temporal_features,
)


def turning(step: float, *, num_frames: int = 5, radius: float = 2.0) -> NDArray[np.float64]:
    """A clip whose features turn by ``step`` radians a frame."""
    angle = step * np.arange(num_frames)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)[None]


def test_a_turning_clip_has_the_known_figures() -> None:
    step = 0.4
    clip = turning(step)
    assert temporal_consistency(clip) == pytest.approx([np.cos(step)])
    assert temporal_change(clip) == pytest.approx([2 * 2.0 * np.sin(step / 2)])


def test_a_still_clip() -> None:
    still = np.repeat(np.array([[[3.0, -1.0, 0.0]]]), 4, axis=1)
    assert temporal_change(still) == pytest.approx([0.0])
    assert temporal_consistency(still) == pytest.approx([1.0])
    assert temporal_consistency(np.zeros((1, 3, 2))) == pytest.approx([1.0])
    assert temporal_features(still) == pytest.approx(np.array([[3.0, -1.0, 0.0, 0.0, 0.0, 0.0]]))


def test_features_are_means_and_absolute_changes() -> None:
    clip = np.array([[[0.0, 1.0], [2.0, 0.0], [1.0, 5.0]]])
    assert temporal_features(clip) == pytest.approx(np.array([[1.0, 2.0, 1.5, 3.0]]))


def test_distance_sees_clips_that_stand_still() -> None:
    """Clips of one frame each of real clips: the frames are right, the movement is not."""
    rng = np.random.default_rng(0)
    start = rng.standard_normal((400, 1, 3))
    moving = start + 0.5 * np.arange(4)[None, :, None]
    still = np.repeat(moving[:, rng.integers(4, size=1)], 4, axis=1)
    real = temporal_features(moving)
    assert frechet_distance(real[:200], real[200:]) < 0.1
    # The changes alone differ by 0.5 in each of three features.
    assert frechet_distance(temporal_features(still), real) > 3 * 0.5**2


@pytest.mark.parametrize("shape", [(2, 1, 3), (2, 3), (0, 2, 2)])
def test_what_is_no_clip(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="at least two frames"):
        temporal_features(np.zeros(shape))


def test_values_that_are_not_finite() -> None:
    clips = np.zeros((3, 2, 2))
    clips[1, 0, 0] = np.nan
    with pytest.raises(DataError, match="Clip 1 holds"):
        temporal_change(clips)
