"""Combinations of rewards, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ddrl.rewards.scoring.combine import Combination, combine, standardize, weighted_sum

ALL = torch.ones(4, dtype=torch.bool)
ROOT = math.sqrt(1.25)  # population standard deviation of 0, 1, 2, 3
UP = torch.tensor([0.0, 1, 2, 3])
COMBINATIONS: list[Combination] = ["sum", "normalized", "lower_confidence"]


def columns(*values: Tensor) -> Tensor:
    return torch.stack(values, dim=1)


def test_the_sum_is_of_raw_values() -> None:
    value = columns(UP, 100 - UP)
    assert combine(value, torch.tensor([2.0, 0.5]), ALL).tolist() == [50, 51.5, 53, 54.5]


def test_normalized_rewards_count_by_weight_and_not_by_unit() -> None:
    z = (UP - 1.5) / ROOT
    for scale, shift in ((1.0, 0.0), (1000.0, -7.0), (1e-6, 1e-5)):
        value = columns(UP, scale * UP.flip(0) + shift)
        found = combine(value, torch.tensor([3.0, 1.0]), ALL, combination="normalized")
        torch.testing.assert_close(found, 3 * z - z, rtol=1e-4, atol=1e-4)


def test_a_negative_weight_turns_a_normalized_reward_round() -> None:
    found = combine(columns(UP), torch.tensor([-2.0]), ALL, combination="normalized")
    torch.testing.assert_close(found, -2 * (UP - 1.5) / ROOT)


@pytest.mark.parametrize("constant", [0.0, 5.0, -1e6, 0.1])
def test_a_constant_reward_adds_nothing(constant: float) -> None:
    level = torch.full((4,), constant)
    weights = torch.tensor([1.0, 4.0])
    found = combine(columns(UP, level), weights, ALL, combination="normalized")
    alone = combine(columns(UP), weights[:1], ALL, combination="normalized")
    assert torch.equal(found, alone)
    rounded = level * (1 + 1e-7 * torch.tensor([0.0, 1, -1, 1]))
    assert torch.equal(combine(columns(UP, rounded), weights, ALL, combination="normalized"), alone)


def test_lower_confidence_of_two_members() -> None:
    """With equal weights the standard deviation is half of the distance."""
    first, second = (UP - 1.5) / ROOT, torch.tensor([-1.0, -1, 1, 1])
    value = columns(10 * UP, torch.tensor([2.0, 2, 4, 4]))
    for kappa in (0.0, 1.0, 2.5):
        found = combine(
            value, torch.tensor([3.0, 3.0]), ALL, combination="lower_confidence", kappa=kappa
        )
        expected = (first + second) / 2 - kappa * (first - second).abs() / 2
        torch.testing.assert_close(found, expected)


def test_lower_confidence_with_weights() -> None:
    """Shares p and 1 - p: the standard deviation is sqrt(p (1 - p)) of the distance."""
    first, second = (UP - 1.5) / ROOT, torch.tensor([-1.0, 1, -1, 1])
    weights = torch.tensor([0.6, 0.2])
    found = combine(columns(UP, second), weights, ALL, combination="lower_confidence", kappa=2.0)
    mean = 0.75 * first + 0.25 * second
    torch.testing.assert_close(found, mean - 2 * math.sqrt(0.1875) * (first - second).abs())


def test_members_that_agree_cost_nothing() -> None:
    value = columns(UP, 50 * UP + 3, UP / 8)
    found = combine(value, torch.ones(3), ALL, combination="lower_confidence", kappa=100.0)
    torch.testing.assert_close(found, (UP - 1.5) / ROOT, rtol=1e-4, atol=1e-4)


def test_a_measured_reward_has_no_say_in_an_ensemble() -> None:
    value = columns(UP, 2 * UP, torch.tensor([9.0, -9, 0, 1]))
    found = combine(
        value, torch.tensor([1.0, 1.0, 0.0]), ALL, combination="lower_confidence", kappa=5.0
    )
    torch.testing.assert_close(found, (UP - 1.5) / ROOT)


@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_failed_samples_take_no_part(combination: Combination, bad: float) -> None:
    one, two = torch.tensor([0.0, 1, 2, 3, bad]), torch.tensor([5.0, 1, 4, 2, 0])
    valid = torch.tensor([True, True, True, True, False])
    weights = torch.tensor([1.0, 2.0])
    found = combine(columns(one, two), weights, valid, combination=combination)
    alone = combine(columns(one, two)[:4], weights, ALL, combination=combination)
    assert torch.equal(found[:4], alone)
    assert float(found[4]) == 0
    assert found.dtype == torch.float32


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_one_valid_sample_or_none(combination: Combination) -> None:
    value, weights = columns(UP, UP), torch.ones(2)
    for count in (0, 1):
        valid = torch.arange(4) >= 4 - count
        found = combine(value, weights, valid, combination=combination)
        expected = weighted_sum(value, weights, valid) if combination == "sum" else torch.zeros(4)
        assert torch.equal(found, expected)


def test_standardized_rewards_have_mean_0_and_deviation_1() -> None:
    value = torch.randn((50, 3), generator=torch.Generator().manual_seed(0)) * 7 + 2
    valid = torch.arange(50) % 5 != 0
    z = standardize(value, valid)[valid]
    torch.testing.assert_close(z.mean(0), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(3, dtype=torch.float64))
