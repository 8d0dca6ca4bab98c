"""Advantages (A1) to (A4), and the constant Z of (O3).

All take rewards (B,), the group of each sample (B,) and which samples to keep (B,): a sample
whose reward failed is out of the statistics and gets advantage 0. A group without spread says
nothing about what is better, so all its advantages are exactly 0.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ddrl.records import Advantages

STD_FLOOR = 1e-4  # (A1)'s constant


@dataclass(frozen=True)
class _Groups:
    """Statistics of each sample's group, every field of shape (B,)."""

    mean: Tensor
    std: Tensor
    size: Tensor
    flat: Tensor
    num_flat: int


def _sum_by_group(value: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """Per sample, the sum over its group."""
    return value.new_zeros(num_groups).index_add(0, group, value)[group]


def _statistics(rewards: Tensor, group: Tensor, keep: Tensor) -> _Groups:
    num_groups = int(group.max()) + 1
    kept = keep.to(rewards.dtype)
    rewards = rewards.where(keep, 0)  # a failed reward may be NaN, and NaN times 0 is NaN
    size = _sum_by_group(kept, group, num_groups).clamp_min(1)
    mean = _sum_by_group(rewards, group, num_groups) / size
    deviation = (rewards - mean) * kept
    std = (_sum_by_group(deviation**2, group, num_groups) / size).sqrt()
    high = rewards.new_full((num_groups,), -torch.inf)
    high = high.scatter_reduce(0, group, rewards.where(keep, -torch.inf), "amax")
    low = rewards.new_full((num_groups,), torch.inf)
    low = low.scatter_reduce(0, group, rewards.where(keep, torch.inf), "amin")
    flat = high <= low  # true also for groups with no sample kept, but not counted without samples
    present = torch.zeros_like(flat).index_fill(0, group, True)
    return _Groups(mean, std, size, flat[group], int((flat & present).sum()))


def _finish(
    value: Tensor, keep: Tensor, groups: _Groups, *, scale: Tensor | None = None
) -> Advantages:
    """The advantages of what is centred, over ``scale`` if that is given."""
    scale = torch.ones_like(value) if scale is None else scale
    value = value / scale
    return Advantages(
        value=torch.where(keep & ~groups.flat, value, 0).float(),
        keep=keep.clone(),
        num_flat_groups=groups.num_flat,
        scale=scale.float(),
        clipped=torch.zeros_like(keep),
    )


def group_advantage(
    rewards: Float[Tensor, "B"], group: Int[Tensor, "B"], keep: Bool[Tensor, "B"]
) -> Advantages:
    """Normalise within the group: (r - mean) / (std + 1e-4). Eq. (A1).

    Departs: the paper divides by beta as well; here beta stays on the data term, eq. (L1), which
    is the same objective. Uses the population standard deviation.
    """
    groups = _statistics(rewards.double(), group, keep)
    return _finish(rewards - groups.mean, keep, groups, scale=groups.std + STD_FLOOR)


def center_advantage(
    rewards: Float[Tensor, "B"], group: Int[Tensor, "B"], keep: Bool[Tensor, "B"]
) -> Advantages:
    """Subtract the group's mean; the unit stays that of the reward. Eq. (A4)."""
    groups = _statistics(rewards.double(), group, keep)
    return _finish(rewards - groups.mean, keep, groups)


def global_advantage(
    rewards: Float[Tensor, "B"], group: Int[Tensor, "B"], keep: Bool[Tensor, "B"]
) -> Advantages:
    """Subtract the group's mean, divide by the whole batch's std. Eq. (A3)."""
    groups = _statistics(rewards.double(), group, keep)
    whole = _statistics(rewards.double(), torch.zeros_like(group), keep)
    return _finish(rewards - groups.mean, keep, groups, scale=whole.std + STD_FLOOR)


def log_partition(data_rewards: Float[Tensor, "M"], *, beta: float) -> float:
    """Z = beta log E_data[exp(r / beta)], which makes the optimum p_data exp((r - Z)/beta). (O3).

    Args:
        data_rewards: rewards of data samples of one condition, M at least 1.
        beta: positive, in units of reward.
    """
    scaled = data_rewards.double() / beta
    return beta * (float(scaled.logsumexp(0)) - math.log(len(scaled)))


def tilt_advantage(
    rewards: Float[Tensor, "B"],
    group: Int[Tensor, "B"],
    keep: Bool[Tensor, "B"],
    *,
    beta: float,
    partition: Float[Tensor, "G"],
    exponent_clamp: float = 3.5,
) -> Advantages:
    """The theorem's advantage: beta (lambda(z_n) - mean over the others), lambda(u) = -exp(-u).

    With z = (r - Z) / beta. Eq. (A2); its optimum is (O3).

    Args:
        rewards: per sample.
        group: per sample.
        keep: per sample.
        beta: positive, in units of reward.
        partition: Z per group, from :func:`log_partition`.
        exponent_clamp: -z is cut off here, so that one terrible sample does not own the update.
    """
    groups = _statistics(rewards.double(), group, keep)
    z = (rewards.double() - partition.double()[group]) / beta
    value = (-(-z).clamp_max(exponent_clamp).exp()).where(keep, 0)
    others = _sum_by_group(value, group, len(partition)) - value
    return _finish(beta * (value - others / (groups.size - 1).clamp_min(1)), keep, groups)


def clip_advantages(advantages: Advantages, limit: float) -> Advantages:
    """Clip values to [-limit, limit]."""
    return dataclasses.replace(
        advantages,
        value=advantages.value.clamp(-limit, limit),
        clipped=advantages.value.abs() > limit,
    )
