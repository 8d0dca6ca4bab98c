"""The regularizers: the data term (T4), the reference term (T3), and the data term's times.

Both terms are W ||v_theta - v||^2. They differ in where (noised data, or the rollout's own
points) and towards what (the data's velocity, or a reference model's).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ddrl.diffusion.transition import Reduction, reduce_dimensions

TimeLaw = Literal["grid", "uniform", "logit_normal"]


def velocity_error(
    velocity: Float[Tensor, "B *D"],
    target: Float[Tensor, "B *D"],
    *,
    reduction: Reduction = "sum",
) -> Float[Tensor, "B"]:
    """||v_theta - v||^2 per sample, in float32: times W it is the KL of (T3) or (T4).

    Args:
        velocity: velocity of the policy.
        target: velocity of the data (P2) or of a teacher for (T4), of the reference for (T3).
        reduction: reduction of the log-probability, so that beta keeps its meaning.
    """
    return reduce_dimensions((velocity.float() - target.float()) ** 2, reduction)


@dataclass(frozen=True)
class DataTimes:
    """Times at which data rows enter the data term, and how much each counts.

    Attributes:
        time: t, float32, shape (B,).
        step: the sampler's step whose interval holds t, shape (B,).
        weight: multiplies omega_k W_k ||v_theta - v||^2, so that its sum over a data sample's
            rows has the expectation of the sum over the trained steps; float32, shape (B,).
    """

    time: Float[Tensor, "B"]
    step: Int[Tensor, "B"]
    weight: Float[Tensor, "B"]


def draw_times(
    times: Float[Tensor, "K1"],
    trained: tuple[int, ...],
    uniform: Float[Tensor, "M R"],
    *,
    law: TimeLaw,
    per_sample: Literal["all", "one"],
) -> DataTimes:
    """Choose the data term's times: M data samples with R rows each, flattened to M R.

    ``grid`` uses the trained steps' own times: all of them, or with ``per_sample="one"`` a step
    drawn uniformly. The other laws draw new t from the union of the trained steps' intervals
    (t_{k+1}, t_k]; a row in interval k counts 1 / P_k per row, with P_k the probability of that
    interval and its W_k: the importance weight that leaves sum_k omega_k W_k (mean over interval
    k, under the law). W is not made a function of t, which has no finite mean (it goes as 1/t);
    nor is the weight, since 1 / p(t) has no finite variance under the logit-normal law.

    Args:
        times: the sampler's grid.
        trained: numbers of the trained steps.
        uniform: numbers in [0, 1); R = len(trained) for ``all``, 1 for ``one``.
        law: law of the times.
        per_sample: rows per data sample: every trained step, or one that stands for all.
    """
    num_samples, num_rows = uniform.shape
    steps = torch.tensor(trained)
    grid = times.float()
    if law == "grid" and per_sample == "all":
        step = steps.repeat(num_samples)
        return DataTimes(grid[step], step, torch.ones(len(step)))
    u = uniform.flatten().double()
    scale = len(trained) / num_rows
    if law == "grid":
        step = steps[(u * len(trained)).long().clamp_max(len(trained) - 1)]
        return DataTimes(grid[step], step, torch.full((len(step),), scale))
    high, low = times[steps].double(), times[steps + 1].double()
    cdf_low = _cdf(low, law)
    mass = _cdf(high, law) - cdf_low
    total = mass.cumsum(0)
    position = u * total[-1]
    interval = torch.searchsorted(total, position, right=True).clamp_max(len(trained) - 1)
    within = position - torch.where(interval > 0, total[interval - 1], 0)
    time = _inverse_cdf(cdf_low[interval] + within, law)
    time = time.clamp(low[interval].clamp_min(1e-6), high[interval])
    weight = total[-1] / mass[interval] / num_rows
    return DataTimes(time.float(), steps[interval], weight.float())


def _cdf(t: Tensor, law: TimeLaw) -> Tensor:
    return t if law == "uniform" else torch.special.ndtr(torch.logit(t))


def _inverse_cdf(p: Tensor, law: TimeLaw) -> Tensor:
    return p if law == "uniform" else torch.special.ndtri(p).sigmoid()
