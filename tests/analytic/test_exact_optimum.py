"""Section 3 of the method without sampling: a categorical policy on a grid reaches its optima.

The policy is a softmax over 200 bins, and its loss is (L1) for one step: the policy term, minus
sum_x p(x) A(x) log p(x), beside beta KL(p_data || p). A(x) is the library's own advantage,
averaged exactly over the other member y ~ p of a group of two. Each optimum is met by gradient
descent from the reference and compared with its closed form, in total variation (TV).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from ddrl.objective.advantage import center_advantage, log_partition, tilt_advantage
from ddrl.objective.policy import reinforce_loss

BINS = 200
GRID = torch.linspace(-4, 4, BINS, dtype=torch.float64)
REWARD = GRID.tanh() + 0.3 * (3 * GRID).sin()


def mixture(weights: list[float], means: list[float], stds: list[float]) -> Tensor:
    density = torch.zeros_like(GRID)
    for weight, mean, std in zip(weights, means, stds, strict=True):
        density = density + weight / std * (-0.5 * ((GRID - mean) / std) ** 2).exp()
    return density / density.sum()


DATA = mixture([0.6, 0.4], [-1.5, 1.5], [0.5, 0.5])
REFERENCE = mixture([0.5, 0.5], [-0.5, 1.0], [1.0, 0.8])


def tv(p: Tensor, q: Tensor) -> float:
    """Total variation distance."""
    return 0.5 * float((p - q).abs().sum())


def partition(p: Tensor, beta: float) -> float:
    """Z = beta log E_p[exp(r / beta)]: the library's, with the bins' weights inside the reward."""
    return log_partition(REWARD + beta * (BINS * p).log(), beta=beta)


def tilted(p: Tensor, beta: float) -> Tensor:
    """Eq. (O3) for p = DATA: p exp((r - Z) / beta)."""
    return p * ((REWARD - partition(p, beta)) / beta).exp()


def saturating(z: float, beta: float) -> tuple[Tensor, float]:
    """Eq. (O2) for any Z, with its multiplier eta_n."""
    penalty = (-(REWARD - z) / beta).exp()
    lowest = -float(penalty.min()) + 1e-12
    eta = float(brentq(lambda e: float((DATA / (e + penalty)).sum()) - 1, lowest, 2.0, xtol=1e-14))
    return DATA / (eta + penalty), eta


def linear_tilt(beta: float) -> Tensor:
    """Eq. (O4), p_data / (1 - A) with A = (r - m) / beta; normalised exactly when m = E_p r."""

    def excess(mean: float) -> float:
        return float((DATA / (1 - (REWARD - mean) / beta)).sum()) - 1

    lowest = float(REWARD.max()) - beta + 1e-10
    mean = float(brentq(excess, lowest, 10.0, xtol=1e-14))
    p = DATA / (1 - (REWARD - mean) / beta)
    assert float((p * REWARD).sum()) == pytest.approx(mean, abs=1e-9)
    return p


def pairs(advantage: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """[x, y]: the advantage of x in the group {x, y}. Its mean over y ~ p is A(x)."""
    members = torch.cartesian_prod(REWARD, REWARD).flatten()
    group = torch.arange(BINS**2).repeat_interleave(2)
    keep = torch.ones(2 * BINS**2, dtype=torch.bool)
    return advantage(members, group, keep).double()[::2].reshape(BINS, BINS)


def tilt_pairs(z: float, beta: float) -> Tensor:
    """(A2). The clamp is for samples, not for the exact expectation: moved out of the way."""
    z_of_group = torch.full((BINS**2,), z, dtype=torch.float64)
    return pairs(
        lambda rewards, group, keep: (
            tilt_advantage(
                rewards, group, keep, beta=beta, partition=z_of_group, exponent_clamp=50.0
            ).value
        )
    )


def center_pairs() -> Tensor:
    """(A4), times N / (N - 1) = 2 for the group's own mean in place of the others'."""
    return pairs(lambda *columns: 2 * center_advantage(*columns).value)


def forward_kl(log_p: Tensor) -> Tensor:
    return (DATA * (DATA.log() - log_p)).sum()


def reverse_kl(log_p: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - REFERENCE.log())).sum()


def loss(logits: Tensor, advantages: Tensor, penalty: Callable[[Tensor], Tensor]) -> Tensor:
    log_p = logits.log_softmax(0)
    p = log_p.detach().exp()
    return (p * reinforce_loss(log_p, advantages @ p)).sum() + penalty(log_p)


def optimum(
    advantages: Tensor, penalty: Callable[[Tensor], Tensor], *, iterations: int = 3000
) -> Tensor:
    """Descend from the reference: Adam .05, cosine to 0."""
    logits = REFERENCE.log().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for k in range(iterations):
        optimizer.param_groups[0]["lr"] = 0.025 * (1 + math.cos(math.pi * k / iterations))
        optimizer.zero_grad()
        loss(logits, advantages, penalty).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return logits.detach().softmax(0)


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_z_of_the_data_gives_the_exponential_tilt(beta: float) -> None:
    """(O3): the theorem."""
    found = optimum(tilt_pairs(partition(DATA, beta), beta), lambda log_p: beta * forward_kl(log_p))
    assert tv(found, tilted(DATA, beta)) < 1e-5
    assert tv(DATA, tilted(DATA, beta)) > 0.3  # there was something to learn


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_z_of_the_reference_gives_another_optimum(beta: float) -> None:
    """(O2), and not (O3): Z is exact under the data, not under the reference."""
    z = partition(REFERENCE, beta)
    expected, eta = saturating(z, beta)
    found = optimum(tilt_pairs(z, beta), lambda log_p: beta * forward_kl(log_p))
    assert tv(found, expected) < 1e-5
    assert tv(found, tilted(DATA, beta)) > 0.03
    assert eta < -0.05  # Z too large: a sharper tilt


def test_the_centered_reward_gives_the_linear_tilt() -> None:
    """(O4): what a normalised advantage optimises."""
    beta = 1.0
    found = optimum(center_pairs(), lambda log_p: beta * forward_kl(log_p))
    assert tv(found, linear_tilt(beta)) < 1e-5
    assert tv(found, tilted(DATA, beta)) > 0.08


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_reverse_kl_gives_the_tilted_reference(beta: float) -> None:
    """Flow-GRPO's optimum is a tilt of the reference, far from that of the data."""
    found = optimum(center_pairs(), lambda log_p: beta * reverse_kl(log_p))
    assert tv(found, tilted(REFERENCE, beta)) < 1e-5
    assert tv(found, tilted(DATA, beta)) > 0.25


def test_no_regularizer_ends_in_one_point() -> None:
    found = optimum(center_pairs(), lambda log_p: log_p.new_zeros(()))
    assert float(found[REWARD.argmax()]) > 0.98
    assert tv(found, tilted(DATA, 1.0)) > 0.95


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_the_policy_gradient_form_is_the_gradient_of_o1(beta: float) -> None:
    """sum_x p A grad log p, with (A2), equals autograd of beta E_p[lambda((r - Z) / beta)]."""
    z = partition(REFERENCE, beta)
    logits = REFERENCE.log().requires_grad_()
    p = logits.softmax(0)
    utility = beta * (p * -(-(REWARD - z) / beta).exp()).sum()
    (expected,) = torch.autograd.grad(utility, logits)
    policy_term = loss(logits, tilt_pairs(z, beta), lambda log_p: log_p.new_zeros(()))
    (found,) = torch.autograd.grad(-policy_term, logits)
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_the_gradient_vanishes_at_the_closed_forms(beta: float) -> None:
    """And nowhere near: not at the data, nor at the other closed forms."""

    def gradient(p: Tensor, advantages: Tensor) -> float:
        logits = p.log().requires_grad_()
        total = loss(logits, advantages, lambda log_p: beta * forward_kl(log_p))
        (found,) = torch.autograd.grad(total, logits)
        return float(found.abs().sum())

    tilt, center = tilt_pairs(partition(DATA, beta), beta), center_pairs()
    assert gradient(tilted(DATA, beta), tilt) < 1e-6
    assert gradient(linear_tilt(beta), center) < 1e-6
    for p, advantages in (
        (DATA, tilt),
        (DATA, center),
        (linear_tilt(beta), tilt),
        (tilted(DATA, beta), center),
    ):
        assert gradient(p, advantages) > 0.05


def test_z_of_the_data_needs_no_multiplier() -> None:
    """(O3) is (O2) at eta_n = 0, and Z off by a part of beta costs what the method says."""
    beta = 0.5
    z = partition(DATA, beta)
    target = tilted(DATA, beta)
    exact, eta = saturating(z, beta)
    assert eta == pytest.approx(0, abs=1e-9)
    assert tv(exact, target) < 1e-9
    costs = []
    for offset, sign in ((-1.0, 1), (-0.5, 1), (0.5, -1), (1.0, -1)):
        p, eta = saturating(z + offset * beta, beta)
        assert eta * sign > 0  # Z too small: a floor under the denominator, so it saturates
        costs.append(tv(p, target))
    assert costs == pytest.approx([0.14, 0.08, 0.15, 0.37], abs=0.006)


def test_the_linear_tilt_is_the_exponential_one_to_first_order() -> None:
    """(O4) and (O3) part in the second order of 1 / beta."""
    gaps = [tv(linear_tilt(beta), tilted(DATA, beta)) for beta in (20.0, 40.0)]
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.1)
