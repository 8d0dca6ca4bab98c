"""Variety beside data and the base, of features for which it can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import stdtrit

from ddrl.evaluation.measures import variety
from ddrl.evaluation.measures.variety import Variety, measure_variety, vendi_of_kernel

Numbers = NDArray[np.float64]


def pairs(widths: list[float]) -> tuple[Numbers, NDArray[np.int64]]:
    """Two samples of each prompt, so far from each other; the prompts are apart."""
    rows = [[100.0 * i + side * w] for i, w in enumerate(widths) for side in (0, 1)]
    return np.array(rows), np.repeat(np.arange(len(widths)), 2)


def within(run: list[float], base: list[float], real: list[float]) -> Variety:
    mine, ids = pairs(run)
    return measure_variety(mine, pairs(base)[0], ids, *pairs(real), unit="prompt")


def test_the_ratio_is_of_means_over_prompts_and_its_change_is_paired() -> None:
    found = within([1, 2, 3, 4, 5], [2, 4, 6, 8, 10], [4, 4, 4, 4, 4])
    assert found.diversity.value == pytest.approx(3 / 4)
    assert found.diversity_change.value == pytest.approx(3 / 4 - 6 / 4)
    # Leaving out a prompt of five leaves means of 3.5, 3.25, 3, 2.75 and 2.5.
    error = math.sqrt(4 / 5 * 2 * (0.5**2 + 0.25**2)) / 4
    half = float(stdtrit(4, 0.975)) * error
    assert found.diversity.high - found.diversity.value == pytest.approx(half)
    wide = float(stdtrit(4, (1 + variety.JOINT) / 2)) * error
    assert found.diversity_change.high - found.diversity_change.value == pytest.approx(wide)


def test_the_effective_number_is_in_widths_of_the_data() -> None:
    """Of two samples a distance d apart: exp of the entropy of (1 +- k) / 2, k = exp(-d^2/2w^2)."""

    def number(width: float) -> float:
        k = math.exp(-(width**2) / (2 * 4**2))
        return math.exp(-sum(p * math.log(p) for p in ((1 + k) / 2, (1 - k) / 2)))

    found = within([2] * 5, [8] * 5, [4] * 5)
    assert found.vendi.value == pytest.approx(number(2) / number(4))
    assert found.real_vendi == pytest.approx(number(4))
    assert found.vendi_change.value == pytest.approx((number(2) - number(8)) / number(4))
    assert found.diversity.value == pytest.approx(1 / 2)
    assert found.diversity_change.value == pytest.approx(1 / 2 - 2)


def test_equal_numbers_are_compared() -> None:
    """Eight samples of a prompt have more kinds than two real ones of the same law."""
    ids, real_id = np.repeat(np.arange(6), 8), np.repeat(np.arange(6), 2)
    samples = np.tile(np.array([[0.0], [1.0]]), (24, 1))
    found = measure_variety(
        samples, samples, ids, np.tile([[0.0], [1.0]], (6, 1)), real_id, unit="prompt"
    )
    assert found.vendi.value == pytest.approx(1.0)
    assert found.diversity.value == pytest.approx(4 / 7), "half of the pairs are of one kind"


def test_half_of_the_prompts_suffice_to_look_within() -> None:
    mine, ids = pairs([1.0] * 12)
    real, real_id = pairs([1.0] * 12)
    for several, is_within in ((6, True), (5, False)):
        keep = (real_id < several) | (np.arange(24) % 2 == 0)
        found = measure_variety(mine, mine, ids, real[keep], real_id[keep], unit="sample")
        basis = found.diversity.basis
        assert basis is not None
        assert basis.num_prompts == (several if is_within else 12)
        assert basis.unit == "prompt"
        assert found.diversity.value == pytest.approx(1.0)


def test_over_prompts_the_unit_is_always_the_prompt() -> None:
    """With eight samples of each and one real one."""
    ids = np.repeat(np.arange(6), 8)
    mine = np.random.default_rng(0).standard_normal((48, 2))
    real = np.random.default_rng(1).standard_normal((6, 2))
    found = measure_variety(mine, 0.5 * mine, ids, real, np.arange(6), unit="sample")
    assert found.diversity.basis is not None
    assert found.diversity.basis.unit == "prompt"
    assert found.diversity.has_ends
    assert found.diversity_change.value == pytest.approx(found.diversity.value / 2)
    # Four sets of one sample of each prompt.
    sets = [mine[np.arange(6) * 8 + i] for i in range(4)]

    def spread(x: Numbers) -> float:
        return float(np.mean([np.linalg.norm(a - b) for i, a in enumerate(x) for b in x[:i]]))

    assert found.diversity.value == pytest.approx(np.mean([*map(spread, sets)]) / spread(real))


def test_one_prompt_with_one_real_sample_says_nothing() -> None:
    mine = np.random.default_rng(0).standard_normal((8, 2))
    zeros = np.zeros(8, dtype=np.int64)
    found = measure_variety(mine, mine, zeros, mine[:1], zeros[:1], unit="prompt")
    assert math.isnan(found.diversity.value)
    assert math.isnan(found.vendi.value)
    assert math.isnan(found.real_vendi)


def cosine(features: Numbers) -> Numbers:
    kernel = features @ features.T
    np.fill_diagonal(kernel, 1.0)
    return kernel


@pytest.mark.parametrize("num", [1, 2, 7])
def test_vendi_counts_samples_that_are_nothing_alike(num: int) -> None:
    assert vendi_of_kernel(np.eye(num)) == pytest.approx(num)
    assert vendi_of_kernel(np.ones((num, num))) == pytest.approx(1.0)


def test_vendi_of_two_samples_is_known() -> None:
    """The eigenvalues of [[1, c], [c, 1]] / 2 are (1 +- c) / 2."""
    c = 0.6
    shares = np.array([(1 + c) / 2, (1 - c) / 2])
    wanted = np.exp(-np.sum(shares * np.log(shares)))
    assert vendi_of_kernel(np.array([[1, c], [c, 1]])) == pytest.approx(wanted)


def test_vendi_counts_kinds_and_not_copies() -> None:
    assert vendi_of_kernel(cosine(np.repeat(np.eye(3), 5, axis=0))) == pytest.approx(3.0)
    # Rows of zeros point nowhere, and are like nothing.
    assert vendi_of_kernel(cosine(np.zeros((4, 2)))) == pytest.approx(4.0)
