"""The policy term of eq. (L1): one number per (sample, step), nothing averaged."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def reinforce_loss(
    log_prob: Float[Tensor, "B"], advantage: Float[Tensor, "B"]
) -> Float[Tensor, "B"]:
    """-A log p."""
    return -advantage * log_prob


def is_clipped(
    ratio: Float[Tensor, "B"],
    advantage: Float[Tensor, "B"],
    *,
    clip_low: float,
    clip_high: float,
) -> Bool[Tensor, "B"]:
    """Return where the clip binds: the sample then gives no gradient. Shape (B,)."""
    return ((ratio > 1 + clip_high) & (advantage > 0)) | ((ratio < 1 - clip_low) & (advantage < 0))


def clipped_ratio_loss(
    ratio: Float[Tensor, "B"],
    advantage: Float[Tensor, "B"],
    *,
    clip_low: float,
    clip_high: float,
) -> Float[Tensor, "B"]:
    """-min(rho A, clip(rho, 1 - low, 1 + high) A). Source: arXiv 1707.06347, eq. (7).

    Args:
        ratio: rho = exp(log p_theta - log p_behaviour), differentiable.
        advantage: advantage of each sample.
        clip_low: how far rho may fall below 1.
        clip_high: how far it may rise above 1 (asymmetric: arXiv 2503.14476).
    """
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -(ratio * advantage).minimum(clipped * advantage)


def return_correction(
    reference_kl: Float[Tensor, "B K"], group_mean: Float[Tensor, "B K"], *, beta: float
) -> Float[Tensor, "B K"]:
    """Return the charge on step k for the KL still to come: -beta (C_k - group mean of C_k).

    C_k is the sum of the KL, eq. (T3), over the steps after k: it depends on where step k went.
    A per-step penalty alone leaves this out and is biased. Add the result to the advantage.

    Args:
        reference_kl: KL at every step of every rollout.
        group_mean: :func:`kl_to_come` averaged over the sample's group, the baseline.
        beta: strength of the KL, in the unit of the advantage.
    """
    return -beta * (kl_to_come(reference_kl) - group_mean)


def kl_to_come(reference_kl: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """C_k = sum of the KL over the steps j > k."""
    return reference_kl.flip(1).cumsum(1).flip(1) - reference_kl
