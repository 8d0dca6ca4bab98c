"""Several rewards of a sample become the one that is trained on."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Combination = Literal["sum", "normalized", "lower_confidence"]

ROUNDING = 1e-6  # a spread below this share of the largest value is float32's, not the reward's


def weighted_sum(value: Tensor, weights: Tensor, valid: Tensor) -> Tensor:
    """Sum weight times raw value over rewards, shape (B,); 0 where ``valid`` is false.

    Args:
        value: raw values, shape (B, R); anything where ``valid`` is false.
        weights: shape (R,).
        valid: whether all rewards of the sample succeeded, shape (B,).
    """
    return torch.where(valid[:, None], value, 0) @ weights


def standardize(value: Tensor, valid: Tensor) -> Tensor:
    """Subtract each reward's mean, divide by its population std; shape (B, R), float64.

    Both are taken over the valid samples of the whole batch, of all groups: what a group has in
    common is taken off by the advantage, and one scale for all keeps groups comparable. A reward
    that is constant there up to float32's rounding says nothing and is 0. So are samples that
    are not valid.

    Args:
        value: raw values, shape (B, R); anything where ``valid`` is false.
        valid: whether all rewards of the sample succeeded, shape (B,).
    """
    result = torch.zeros_like(value, dtype=torch.float64)
    kept = value[valid].double()
    if not len(kept):
        return result
    spread = kept.amax(0) - kept.amin(0)
    constant = spread <= ROUNDING * kept.abs().amax(0)
    std = kept.std(0, correction=0).where(~constant, 1)
    result[valid] = ((kept - kept.mean(0)) / std).where(~constant, 0)
    return result


def combine(
    value: Tensor,
    weights: Tensor,
    valid: Tensor,
    *,
    combination: Combination = "sum",
    kappa: float = 1.0,
) -> Tensor:
    """Combine rewards into the one that is trained on, shape (B,); 0 where ``valid`` is false.

    With w_i the weights, r_i the raw values and z_i those of :func:`standardize`:

    - ``sum``: sum_i w_i r_i;
    - ``normalized``: sum_i w_i z_i, so that the weights compare importance, not units;
    - ``lower_confidence``: m - kappa s of an ensemble, m = sum_i p_i z_i,
      s^2 = sum_i p_i (z_i - m)^2, p_i = w_i / sum_j w_j: where its members disagree, a sample
      is worth less than their mean.

    Args:
        value: raw values, shape (B, R); anything where ``valid`` is false.
        weights: shape (R,); for ``lower_confidence`` at least 0, and not all 0.
        valid: whether all rewards of the sample succeeded, shape (B,).
        combination: which of the three.
        kappa: for ``lower_confidence``, in standard deviations between its members.
    """
    if combination == "sum":
        return weighted_sum(value, weights, valid)
    standard, factors = standardize(value, valid), weights.double()
    if combination == "normalized":
        return (standard @ factors).float()
    shares = factors / factors.sum()
    mean = standard @ shares
    std = ((standard - mean[:, None]) ** 2 @ shares).sqrt()
    return (mean - kappa * std).float()
