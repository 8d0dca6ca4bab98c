from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from ddrl.errors import DataError
from ddrl.evaluation.measures.fidelity import frechet_distance

Array = NDArray[np.float64]


def with_moments(mean: Array, root: Array, seed: int, n: int = 200) -> Array:
    """Samples whose mean and unbiased covariance root.T @ root are exact."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, len(mean)))
    x -= x.mean(axis=0)
    whitener = np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(x, rowvar=False))))
    white: Array = x @ whitener.T
    return white @ root + mean


def test_shift_is_the_squared_distance_of_the_means() -> None:
    shift = np.array([3.0, 4.0, 0.0])
    a = with_moments(np.zeros(3), np.eye(3), 0)
    assert frechet_distance(a, a + shift) == pytest.approx(25.0, rel=1e-10)


def test_diagonal() -> None:
    std_a, std_b = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.5, 3.0])
    a = with_moments(np.zeros(3), np.diag(std_a), 0)
    b = with_moments(np.ones(3), np.diag(std_b), 1)
    assert frechet_distance(a, b) == pytest.approx(3.0 + np.sum((std_a - std_b) ** 2), rel=1e-10)


def test_commuting() -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((4, 4)))
    std_a, std_b = np.array([1.0, 2.0, 0.3, 5.0]), np.array([2.0, 2.5, 0.1, 1.0])
    a = with_moments(np.zeros(4), np.diag(std_a) @ turn, 0)
    b = with_moments(np.zeros(4), np.diag(std_b) @ turn, 1)
    assert frechet_distance(a, b) == pytest.approx(np.sum((std_a - std_b) ** 2), rel=1e-10)


def test_general_against_the_matrix_root() -> None:
    rng = np.random.default_rng(5)
    a = rng.standard_normal((300, 6)) @ rng.standard_normal((6, 6)) + rng.standard_normal(6)
    b = rng.standard_normal((200, 6)) @ rng.standard_normal((6, 6))
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(np.asarray(sqrtm(cov_a @ cov_b)))
    wanted = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a + cov_b - 2.0 * root)
    assert frechet_distance(a, b) == pytest.approx(float(wanted), rel=1e-9)


def test_one_dimension_is_the_wasserstein_distance_of_gaussians() -> None:
    a = with_moments(np.array([1.0]), np.array([[2.0]]), 0)
    b = with_moments(np.array([-1.0]), np.array([[0.5]]), 1)
    assert frechet_distance(a, b) == pytest.approx(4.0 + 1.5**2, rel=1e-10)


def test_fewer_samples_than_features() -> None:
    """Covariances of rank 1 on orthogonal axes share nothing: d^2 is the sum of the variances."""
    a, b = np.zeros((2, 50)), np.zeros((2, 50))
    a[:, 0], b[:, 1] = [-1.0, 1.0], [-3.0, 3.0]
    assert frechet_distance(a, b) == pytest.approx(2.0 + 18.0, rel=1e-12)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 6))
def test_symmetric_not_negative_and_turn_invariant(seed: int, n: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((n, width)), 2.0 * rng.standard_normal((n + 3, width)) + 1.0
    turn, _ = np.linalg.qr(rng.standard_normal((width, width)))
    there = frechet_distance(a, b)
    assert there >= 0.0
    assert frechet_distance(b, a) == pytest.approx(there, rel=1e-9)
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(there, rel=1e-9)
    assert frechet_distance(a[::-1], b) == pytest.approx(there, rel=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.zeros((1, 3)), np.zeros((4, 3)), r"first feature set holds 1 sample"),
        (np.zeros((4, 3)), np.zeros((0, 3)), r"second feature set holds 0 sample"),
        (np.zeros((4, 3)), np.zeros((4, 2)), r"different widths: 3 and 2"),
        (np.zeros(4), np.zeros((4, 2)), r"shape \(4,\)"),
        (np.array([[0.0], [np.nan]]), np.zeros((4, 1)), r"Sample 1 of the first"),
        (np.array([[0.0], [1e200]]), np.zeros((4, 1)), r"overflows"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_bad_features(a: Array, b: Array, words: str) -> None:
    with pytest.raises(DataError, match=words):
        frechet_distance(a, b)
