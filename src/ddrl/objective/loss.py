"""Eq. (L1): the policy term and the regularizer under one step weight.

(L1)  loss = sum_k omega_k { -mean_n[A_n log p(x_{k+1} | x_k)] + beta W_k ||v_theta - v||^2 }

omega_k is shared by both terms, so it is a free preconditioner; a weight on one of them alone
would be another objective, with another beta at every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ddrl.diffusion.transition import Reduction
from ddrl.objective.regularizer import TimeLaw

StepWeight = Literal["path", "velocity", "geometric"]


@dataclass(frozen=True)
class Objective:
    """The settings of the one loss. Every method is a choice of these.

    DDRL is (grpo or reinforce, data); Flow-GRPO is (grpo, reference); DanceGRPO is (grpo, none);
    supervised fine-tuning is (none, data).

    Attributes:
        policy: the policy term: ``reinforce``, ``grpo`` (clipped ratio), or ``none``.
        regularizer: ``data`` (T4), ``reference`` (T3) or ``none``.
        beta: strength of the regularizer in (O1), in the unit of the advantage.
        step_weight: rule of omega_k.
        clip_low: how far the ratio may fall below 1.
        clip_high: how far the ratio may rise above 1.
        reduction: sum or mean over latent dimensions, for both terms.
        data_times: law of the data term's times.
        data_target: target of the data term's velocity: that of the ``data``, or of a
            ``teacher``, the frozen start, at the same noised data.
        data_per_step: data rows per sample: one for every trained step, or one for all.
        condition_dropout: share of data rows whose text is dropped.
        kl_in_return: whether ``reference`` also charges each step for the KL to come.
    """

    policy: Literal["reinforce", "grpo", "none"] = "grpo"
    regularizer: Literal["data", "reference", "none"] = "data"
    beta: float = 1.0
    step_weight: StepWeight = "path"
    clip_low: float = 0.2
    clip_high: float = 0.2
    reduction: Reduction = "sum"
    data_times: TimeLaw = "grid"
    data_target: Literal["data", "teacher"] = "data"
    data_per_step: Literal["all", "one"] = "all"
    condition_dropout: float = 0.0
    kl_in_return: bool = False


def effective_beta(objective: Objective, *, beta: float, guidance: float) -> float:
    """Return beta by the gradients of the two terms, for the conditional velocity v_c.

    The policy's velocity is v = v_0 + w (v_c - v_0) with guidance w, and v_0 is out of the graph:
    the policy term's gradient with respect to v_c is w times that with respect to v. The data term
    compares v_c itself and weighs beta / w; the reference term compares guided velocities, gains
    the same w and weighs beta.

    Args:
        objective: the loss with the regularizer.
        beta: strength of the regularizer now.
        guidance: w, above 0.
    """
    if objective.regularizer == "none":
        return 0.0
    return beta / guidance if objective.regularizer == "data" else beta


def step_weights(
    kl_weight: Float[Tensor, "K"], trained: tuple[int, ...], *, name: StepWeight
) -> Float[Tensor, "K"]:
    """Return omega_k, with mean 1 over the trained steps and 0 elsewhere. Eq. (L1).

    Args:
        kl_weight: W_k, positive at trained steps.
        trained: trained steps.
        name: ``path`` (omega = 1: the data term is the ELBO's), ``velocity`` (1 / W: it is the
            plain velocity loss) or ``geometric`` (1 / sqrt(W)).
    """
    exponent = {"path": 0.0, "velocity": -1.0, "geometric": -0.5}[name]
    steps = torch.tensor(trained)
    weights = kl_weight.double()[steps] ** exponent
    return torch.zeros_like(kl_weight, dtype=torch.float64).index_put(
        (steps,), weights / weights.mean()
    )
