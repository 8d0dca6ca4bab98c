"""Advantages (A1) to (A4) against a slow reference, and Z of (O3) against sums."""

from __future__ import annotations

import math
from collections.abc import Callable

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from ddrl.objective.advantage import (
    center_advantage,
    clip_advantages,
    global_advantage,
    group_advantage,
    log_partition,
    tilt_advantage,
)
from ddrl.records import Advantages

Method = Callable[[Tensor, Tensor, Tensor], Advantages]
Array = NDArray[np.float64]

BETA = 0.7


def tilt(rewards: Tensor, group: Tensor, keep: Tensor) -> Advantages:
    """(A2) with a Z for each of up to 6 groups."""
    partition = torch.linspace(-0.5, 0.5, 6)
    return tilt_advantage(rewards, group, keep, beta=BETA, partition=partition)


METHODS: dict[str, Method] = {
    "group": group_advantage,
    "tilt": tilt,
    "global": global_advantage,
    "center": center_advantage,
}
BY_NAME = pytest.mark.parametrize("name", list(METHODS))


def slow_reference(name: str, rewards: Array, group: list[int], keep: list[bool]) -> Array:
    """Section 4 of the method, one sample after the other."""
    kept_rewards = [r for r, k in zip(rewards, keep, strict=True) if k]
    found = np.zeros(len(rewards))
    for n, g in enumerate(group):
        members = [m for m in range(len(group)) if group[m] == g and keep[m]]
        values = [rewards[m] for m in members]
        if not keep[n] or len(set(values)) < 2:
            continue
        centered = rewards[n] - np.mean(values)
        if name == "group":
            found[n] = centered / (np.std(values) + 1e-4)
        elif name == "global":
            found[n] = centered / (np.std(kept_rewards) + 1e-4)
        elif name == "center":
            found[n] = centered
        else:
            z = np.linspace(-0.5, 0.5, 6)[g]
            lam = {m: -math.exp(min(-(rewards[m] - z) / BETA, 3.5)) for m in members}
            found[n] = BETA * (lam[n] - np.mean([lam[m] for m in members if m != n]))
    return found


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[float], list[int], list[bool]]:
    """Rewards on a coarse grid, so that ties and flat groups are common."""
    size = draw(st.integers(1, 24))
    rewards = draw(st.lists(st.integers(-8, 8), min_size=size, max_size=size))
    group = draw(st.lists(st.integers(0, 5), min_size=size, max_size=size))
    keep = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return [r / 4 for r in rewards], group, keep


@BY_NAME
@given(batch=batches())
@settings(derandomize=True, deadline=None, max_examples=60, database=None)
def test_against_the_slow_reference(
    name: str, batch: tuple[list[float], list[int], list[bool]]
) -> None:
    rewards, group, keep = batch
    found = METHODS[name](torch.tensor(rewards), torch.tensor(group), torch.tensor(keep))
    expected = slow_reference(name, np.array(rewards), group, keep)
    assert found.value.dtype == torch.float32
    assert found.keep.tolist() == keep
    np.testing.assert_allclose(found.value.numpy(), expected, rtol=2e-5, atol=2e-5)
    flat = {
        g
        for g in group
        if len({r for r, h, k in zip(rewards, group, keep, strict=True) if h == g and k}) < 2
    }
    assert found.num_flat_groups == len(flat)


@BY_NAME
@given(batch=batches(), seed=st.integers(0, 1000))
@settings(derandomize=True, deadline=None, max_examples=30, database=None)
def test_permuting_samples_permutes_advantages(
    name: str, batch: tuple[list[float], list[int], list[bool]], seed: int
) -> None:
    rewards, group, keep = (torch.tensor(column) for column in batch)
    order = torch.randperm(len(rewards), generator=torch.Generator().manual_seed(seed))
    straight = METHODS[name](rewards, group, keep)
    permuted = METHODS[name](rewards[order], group[order], keep[order])
    torch.testing.assert_close(permuted.value, straight.value[order])
    assert permuted.num_flat_groups == straight.num_flat_groups


@BY_NAME
def test_a_group_without_spread_gives_exactly_0(name: str) -> None:
    rewards = torch.tensor([0.1, 0.1, 0.1, 0.3, 0.5, 0.1])
    group = torch.tensor([0, 0, 0, 1, 1, 0])
    found = METHODS[name](rewards, group, torch.ones(6, dtype=torch.bool))
    assert found.value[group == 0].tolist() == [0, 0, 0, 0]
    assert (found.value[group == 1] != 0).all()
    assert found.num_flat_groups == 1


@BY_NAME
def test_a_single_kept_member_gives_0(name: str) -> None:
    keep = torch.tensor([False, True, False, True, True])
    rewards, group = torch.tensor([1.0, 2.0, 3.0, 1.0, 2.0]), torch.tensor([0, 0, 0, 1, 1])
    found = METHODS[name](rewards, group, keep)
    assert found.value[:3].tolist() == [0, 0, 0]
    assert float(found.value[4]) > 0 > float(found.value[3])
    assert found.num_flat_groups == 1


@BY_NAME
@pytest.mark.parametrize("failed", [math.nan, math.inf, -1e30])
def test_a_dropped_reward_reaches_nobody(name: str, failed: float) -> None:
    keep = torch.tensor([True, True, False, True])
    group = torch.tensor([0, 0, 0, 0])
    found = METHODS[name](torch.tensor([1.0, 2.0, failed, 4.0]), group, keep)
    alone = METHODS[name](torch.tensor([1.0, 2.0, 4.0]), group[:3], torch.ones(3).bool())
    assert torch.equal(found.value[keep], alone.value)
    assert float(found.value[2]) == 0


@BY_NAME
def test_groups_that_are_not_there_are_not_counted(name: str) -> None:
    keep = torch.ones(4, dtype=torch.bool)
    found = METHODS[name](torch.tensor([1.0, 2.0, 3.0, 3.0]), torch.tensor([1, 1, 5, 5]), keep)
    assert found.num_flat_groups == 1


@BY_NAME
def test_better_is_higher(name: str) -> None:
    keep = torch.ones(4, dtype=torch.bool)
    rewards = torch.tensor([0.3, 0.1, 0.9, 0.5])
    found = METHODS[name](rewards, torch.zeros(4, dtype=torch.int64), keep)
    assert torch.equal(found.value.argsort(), rewards.argsort())


def test_units() -> None:
    """(A1) and (A3) have no unit; (A4) and, with beta and Z in the reward's unit, (A2) have."""
    rewards = torch.tensor([0.3, 0.1, 0.9, 0.5, -1.0, 2.0])
    group, keep = torch.tensor([0, 0, 0, 1, 1, 1]), torch.ones(6, dtype=torch.bool)
    for method in (group_advantage, global_advantage):
        plain, scaled = (method(r, group, keep).value for r in (rewards, 100 * rewards + 7))
        torch.testing.assert_close(plain, scaled, rtol=1e-3, atol=1e-3)
    center = [center_advantage(r, group, keep).value for r in (rewards, 100 * rewards + 7)]
    torch.testing.assert_close(100 * center[0], center[1], rtol=1e-4, atol=1e-4)
    plain, scaled = (
        tilt_advantage(r, group, keep, beta=beta, partition=z).value
        for r, beta, z in (
            (rewards, 0.5, torch.tensor([0.1, 0.2])),
            (100 * rewards + 7, 50.0, torch.tensor([17.0, 27.0])),
        )
    )
    torch.testing.assert_close(100 * plain, scaled, rtol=1e-4, atol=1e-4)


def test_tilt_expectation_is_the_gradient_of_the_utility() -> None:
    """E over all N-tuples of sum_n A_n grad log p(x_n) / N is beta grad E[lambda(z)], exactly.

    The leave-one-out baseline is what makes it exact: the group's own mean would scale it by
    (N - 1) / N, as it does for (A4).
    """
    rewards = torch.tensor([0.2, -0.4, 1.0], dtype=torch.float64)
    logits = torch.tensor([0.1, 0.7, -0.5], dtype=torch.float64, requires_grad=True)
    p = logits.softmax(0)
    utility = BETA * (p * -(-(rewards - 0.3) / BETA).exp()).sum()
    (expected,) = torch.autograd.grad(utility, logits, retain_graph=True)
    (of_mean,) = torch.autograd.grad((p * rewards).sum(), logits)

    tuples = torch.cartesian_prod(*[torch.arange(3)] * 4)  # every outcome of N = 4 draws
    probability = p.detach()[tuples].prod(1)
    group = torch.arange(len(tuples)).repeat_interleave(4)
    keep = torch.ones(len(group), dtype=torch.bool)
    grad_log_p = (torch.eye(3, dtype=torch.float64) - p.detach())[tuples]

    def policy_gradient(advantages: Advantages) -> Tensor:
        value = advantages.value.double().reshape(-1, 4, 1)
        return (probability[:, None] * (value * grad_log_p).mean(1)).sum(0)

    flat = rewards[tuples].flatten()
    partition = torch.full((len(tuples),), 0.3)
    tilted = tilt_advantage(flat, group, keep, beta=BETA, partition=partition, exponent_clamp=50.0)
    torch.testing.assert_close(policy_gradient(tilted), expected, rtol=1e-5, atol=1e-7)
    centered = center_advantage(flat, group, keep)
    torch.testing.assert_close(policy_gradient(centered), 0.75 * of_mean, rtol=1e-5, atol=1e-7)


def test_tilt_is_the_centered_reward_for_large_beta() -> None:
    """To first order in 1 / beta; the leave-one-out mean makes it N / (N - 1) of (A4)."""
    generator = torch.Generator().manual_seed(3)
    rewards = torch.randn(8, generator=generator, dtype=torch.float64)
    group, keep = torch.tensor([0, 1] * 4), torch.ones(8, dtype=torch.bool)
    center = center_advantage(rewards, group, keep).value * 4 / 3
    gaps = []
    for beta in (100.0, 1000.0):
        found = tilt_advantage(rewards, group, keep, beta=beta, partition=torch.zeros(2)).value
        gaps.append(float((found - center).abs().max()))
    assert gaps[1] < 5e-3
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.1)


def test_exponent_is_clamped() -> None:
    """One terrible sample gets the value of -z = 3.5, no more."""
    group, keep = torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.bool)
    partition = torch.zeros(1)

    def advantage(worst: float, clamp: float) -> float:
        rewards = torch.tensor([0.0, 0.0, worst])
        found = tilt_advantage(
            rewards, group, keep, beta=2.0, partition=partition, exponent_clamp=clamp
        )
        return float(found.value[2])

    assert advantage(-7.0, 3.5) == pytest.approx(2 * (1 - math.exp(3.5)))
    assert advantage(-1e6, 3.5) == advantage(-7.0, 3.5)
    assert advantage(-2.0, 3.5) == pytest.approx(2 * (1 - math.exp(1.0)))
    assert advantage(-9.0, 4.5) == pytest.approx(2 * (1 - math.exp(4.5)))


@pytest.mark.parametrize("beta", [0.01, 0.5, 3.0])
def test_log_partition(beta: float) -> None:
    rewards = torch.tensor([0.3, -0.2, 1.4, 0.9, 0.9])
    mean = math.fsum(math.exp((r - 1.4) / beta) for r in rewards.tolist()) / 5
    expected = 1.4 + beta * math.log(mean)
    assert log_partition(rewards, beta=beta) == pytest.approx(expected, rel=1e-6)


def test_log_partition_normalises_the_tilt() -> None:
    """E_data[exp((r - Z) / beta)] = 1, which is (O3); to double precision."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(50, generator=generator, dtype=torch.float64)
    z = log_partition(rewards, beta=0.4)
    assert float(((rewards - z) / 0.4).exp().mean()) == pytest.approx(1, abs=1e-12)


def test_log_partition_limits() -> None:
    """Between the mean (beta large) and the maximum (beta small); no overflow."""
    rewards = torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
    assert log_partition(rewards, beta=1e6) == pytest.approx(2, abs=1e-5)
    assert log_partition(rewards, beta=1e-4) == pytest.approx(5, abs=2e-4)
    assert log_partition(rewards + 3, beta=0.5) == pytest.approx(
        log_partition(rewards, beta=0.5) + 3
    )
    assert log_partition(torch.tensor([2.5]), beta=0.1) == pytest.approx(2.5)


def test_clip_advantages() -> None:
    keep = torch.tensor([True, True, True, False])
    plain = Advantages(
        value=torch.tensor([7.0, -9.0, 5.0, 0.0]),
        keep=keep,
        num_flat_groups=2,
        scale=torch.tensor([1.0, 2.0, 3.0, 4.0]),
        clipped=torch.zeros(4, dtype=torch.bool),
    )
    clipped = clip_advantages(plain, 5.0)
    assert clipped.value.tolist() == [5, -5, 5, 0]
    assert clipped.clipped.tolist() == [True, True, False, False]
    assert torch.equal(clipped.keep, keep)
    assert clipped.num_flat_groups == 2
    assert torch.equal(clipped.scale, plain.scale)


@BY_NAME
def test_what_the_reward_was_divided_by(name: str) -> None:
    """Groups of standard deviation 0.5 and 1, far apart, so that the batch's is above 20."""
    keep = torch.ones(4, dtype=torch.bool)
    rewards = torch.tensor([0.0, 1.0, 40.0, 42.0])
    found = METHODS[name](rewards, torch.tensor([0, 0, 1, 1]), keep)
    whole = float(rewards.std(correction=0))
    expected = {"group": [0.5, 0.5, 1, 1], "global": [whole] * 4}.get(name, [1.0] * 4)
    assert found.scale.tolist() == pytest.approx(expected, abs=2e-4)
    assert not found.clipped.any()
    if name != "tilt":
        centred = torch.tensor([-0.5, 0.5, -1.0, 1.0])
        torch.testing.assert_close(found.value * found.scale, centred)


@BY_NAME
@pytest.mark.parametrize("wrong", ["rewards", "group", "keep"])
def test_a_column_is_refused(name: str, wrong: str) -> None:
    columns = {
        "rewards": torch.rand(4, generator=torch.Generator().manual_seed(0)),
        "group": torch.tensor([0, 0, 1, 1]),
        "keep": torch.ones(4, dtype=torch.bool),
    }
    columns[wrong] = columns[wrong][:, None]
    with pytest.raises(jaxtyping.TypeCheckError):
        METHODS[name](columns["rewards"], columns["group"], columns["keep"])
