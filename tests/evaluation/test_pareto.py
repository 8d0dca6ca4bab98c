from __future__ import annotations

import math

import numpy as np
import pytest

from ddrl.errors import DataError
from ddrl.evaluation.measures.pareto import cost_at, hypervolume, pareto_front

# Rows 0, 2 and 4 are the front; row 1 costs more than row 2 for less, row 3 equals row 2.
POINTS = np.array([[1.0, 1.0], [1.5, 3.0], [2.0, 2.0], [2.0, 2.0], [4.0, 5.0], [4.0, 6.0]])


def test_front() -> None:
    assert pareto_front(POINTS).tolist() == [0, 2, 4]
    assert pareto_front(POINTS[:1]).tolist() == [0]


def test_front_is_what_nothing_beats() -> None:
    """Against the definition, on points with many ties."""
    rng = np.random.default_rng(0)
    points = rng.integers(0, 6, size=(40, 2)).astype(np.float64)
    front = points[pareto_front(points)]
    for point in points:
        as_good = (front[:, 0] >= point[0]) & (front[:, 1] <= point[1])
        assert as_good.any()
    for point in front:
        as_good = (points[:, 0] >= point[0]) & (points[:, 1] <= point[1])
        assert (points[as_good] == point).all()
    assert (np.diff(front, axis=0) > 0).all()


def test_hypervolume_of_rectangles() -> None:
    assert hypervolume(np.array([[2.0, 3.0]]), (0.0, 10.0)) == pytest.approx(2 * 7)
    # By rectangles: rewards 0-1 at cost 1, 1-2 at cost 2, 2-4 at cost 5.
    assert hypervolume(POINTS, (0.0, 6.0)) == pytest.approx(1 * 5 + 1 * 4 + 2 * 1)
    assert hypervolume(POINTS, (4.0, 6.0)) == 0.0
    assert hypervolume(POINTS, (0.0, 1.0)) == 0.0


def test_hypervolume_is_the_share_of_points_that_are_dominated() -> None:
    rng = np.random.default_rng(1)
    points = rng.random((5, 2))
    probes = rng.random((200_000, 2))
    beaten = (points[:, 0] >= probes[:, :1]) & (points[:, 1] <= probes[:, 1:])
    assert hypervolume(points, (0.0, 1.0)) == pytest.approx(beaten.any(1).mean(), abs=0.01)


def test_cost_at_a_reward_lies_between_neighbours() -> None:
    assert cost_at(POINTS, 2.0) == pytest.approx(2.0)
    assert cost_at(POINTS, 3.0) == pytest.approx(3.5)
    assert math.isnan(cost_at(POINTS, 4.1))
    assert math.isnan(cost_at(POINTS, 0.9))


def test_bad_points() -> None:
    with pytest.raises(DataError, match="not \\(runs, 2\\)"):
        pareto_front(np.zeros((0, 2)))
    with pytest.raises(DataError, match="Point 1"):
        hypervolume(np.array([[0.0, 0.0], [np.nan, 0.0]]), (0.0, 1.0))
