from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ddrl.errors import DataError, UsageError
from ddrl.evaluation.diversity import (
    diversity_ratio,
    group_diversity,
    group_vendi,
    median_distance,
    vendi_score,
    within_group_diversity,
)

# A 3-4-5 triangle (mean distance 4) and a pair at distance 10.
FEATURES = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0], [0.0, 0.0], [6.0, 8.0]])
GROUP = np.array([7, 7, 7, 2, 2])


def test_each_group_has_the_same_weight() -> None:
    assert within_group_diversity(FEATURES, GROUP) == pytest.approx((4.0 + 10.0) / 2)


def test_group_values_come_in_ascending_id() -> None:
    ids, values = group_diversity(FEATURES, GROUP)
    assert ids.tolist() == [2, 7]
    assert values == pytest.approx([10.0, 4.0])


def test_gaussian_pairs_have_the_known_mean_distance() -> None:
    """In one dimension E|x - y| = 2 std / sqrt(pi)."""
    x = 3.0 * np.random.default_rng(0).standard_normal((2000, 1))
    group = np.zeros(2000, dtype=np.int64)
    assert within_group_diversity(x, group) == pytest.approx(6.0 / np.sqrt(np.pi), rel=0.03)


def test_order_ids_and_shifts_of_a_group_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    x, group = rng.standard_normal((40, 5)), np.arange(40) % 4
    wanted = within_group_diversity(x, group)
    order = rng.permutation(40)
    assert within_group_diversity(x[order], group[order]) == pytest.approx(wanted, rel=1e-12)
    assert within_group_diversity(x, 100 - 3 * group) == pytest.approx(wanted, rel=1e-12)
    shifted = x + 50.0 * group[:, None]
    assert within_group_diversity(shifted, group) == pytest.approx(wanted, rel=1e-12)


def test_repeating_one_sample_is_zero() -> None:
    assert within_group_diversity(np.ones((4, 3)), np.array([0, 0, 1, 1])) == 0.0


def test_ratio_of_scaled_data_is_the_scale() -> None:
    x = np.random.default_rng(2).standard_normal((30, 4))
    group = np.arange(30) % 3
    assert diversity_ratio(0.5 * x, group, x, group) == pytest.approx(0.5)


def test_ratio_leaves_out_groups_that_were_not_generated() -> None:
    ratio = diversity_ratio(FEATURES[:3], GROUP[:3], FEATURES, GROUP)
    assert ratio == pytest.approx(1.0)


def test_ratio_needs_real_data_of_each_group() -> None:
    with pytest.raises(DataError, match="group 2 was generated but has no real data"):
        diversity_ratio(FEATURES, GROUP, FEATURES[:3], GROUP[:3])


def test_ratio_to_equal_real_data() -> None:
    with pytest.raises(DataError, match="all equal"):
        diversity_ratio(FEATURES[3:], GROUP[3:], np.ones((2, 2)), np.array([2, 2]))


@pytest.mark.parametrize(
    ("features", "group", "words"),
    [
        (FEATURES, np.array([7, 7, 7, 2, 3]), "group 2 holds one sample"),
        (FEATURES, GROUP[:3], "one integer for each of the 5"),
        (FEATURES, GROUP.astype(np.float64), "float64"),
        (np.zeros((0, 2)), np.zeros(0, dtype=np.int64), "shape"),
        (np.full((2, 2), np.inf), np.array([0, 0]), "sample 0 holds"),
    ],
)
def test_bad_input(features: NDArray[np.float64], group: NDArray[np.int64], words: str) -> None:
    with pytest.raises(DataError, match=words):
        within_group_diversity(features, group)


@pytest.mark.parametrize("num", [1, 2, 7])
def test_vendi_counts_samples_that_are_nothing_alike(num: int) -> None:
    unlike = np.eye(num, 9)
    assert vendi_score(3.0 * unlike) == pytest.approx(num)
    assert vendi_score(100.0 * unlike, kernel="rbf") == pytest.approx(num)
    assert vendi_score(np.ones((num, 4))) == pytest.approx(1.0)
    assert vendi_score(np.ones((num, 4)), kernel="rbf") == pytest.approx(1.0)


def test_vendi_of_two_samples_is_known() -> None:
    """The eigenvalues of [[1, c], [c, 1]] / 2 are (1 +- c) / 2."""
    c = 0.6
    pair = np.array([[1.0, 0.0], [c, np.sqrt(1 - c**2)]])
    shares = np.array([(1 + c) / 2, (1 - c) / 2])
    wanted = np.exp(-np.sum(shares * np.log(shares)))
    assert vendi_score(pair) == pytest.approx(wanted)
    distance = np.sqrt(-2.0 * 2.5**2 * np.log(c))  # where the other kernel is c, too
    apart = np.array([[0.0], [distance]])
    assert vendi_score(apart, kernel="rbf", bandwidth=2.5) == pytest.approx(wanted)


def test_vendi_counts_kinds_and_not_copies() -> None:
    kinds = np.repeat(np.eye(3), 5, axis=0)
    assert vendi_score(kinds) == pytest.approx(3.0)
    # Rows of zeros point nowhere, and are like nothing.
    assert vendi_score(np.zeros((4, 2))) == pytest.approx(4.0)


def test_vendi_of_groups_takes_equal_numbers() -> None:
    features = np.concatenate([np.eye(4), np.ones((2, 4)), np.eye(4)[:1]])
    ids, scores = group_vendi(features, np.array([5, 5, 5, 5, 1, 1, 1]), size=2)
    assert ids.tolist() == [1, 5]
    assert scores == pytest.approx([1.0, 2.0])
    with pytest.raises(DataError, match="group 1 holds 3 samples, and 4 are compared"):
        group_vendi(features, np.array([5, 5, 5, 5, 1, 1, 1]), size=4)


def test_median_distance_is_within_groups() -> None:
    assert median_distance(FEATURES, GROUP) == pytest.approx((4.0 + 5.0) / 2)


def test_vendi_of_nothing() -> None:
    with pytest.raises(DataError, match="finite features"):
        vendi_score(np.full((2, 2), np.nan))
    with pytest.raises(UsageError, match="bandwidth"):
        vendi_score(np.ones((2, 2)), kernel="rbf", bandwidth=0.0)
