"""One reverse step as a Gaussian, eqs. (T1) to (T4).

(T1)  p(x_s | x_t) = N(a x_t + b v, std^2 I),   with (a, b, std) depending on (t, s) alone.

A kernel is nothing but these coefficients. Sampling, log-probability, the reverse KL and the
weight of the data term are derived from them here, for the rollout and the loss alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ddrl.diffusion.kernels import ODE, Kernel
from ddrl.diffusion.process import Process, per_row

Reduction = Literal["sum", "mean"]
"""Over the D latent dimensions. ``"sum"`` is the log-density; ``"mean"`` is Flow-GRPO's habit."""


@dataclass(frozen=True)
class Step:
    """The coefficients of eq. (T1) for a batch of steps, float32, one row per sample."""

    a: Float[Tensor, "B"]
    b: Float[Tensor, "B"]
    std: Float[Tensor, "B"]


@dataclass(frozen=True)
class Transitions:
    """The coefficients of all K steps of a sampler, float64.

    Attributes:
        times: t_0 = 1 to t_K = 0, shape (K + 1,).
        a: shape (K,).
        b: shape (K,).
        std: shape (K,); 0 marks a deterministic step.
    """

    times: Float[Tensor, "K1"]
    a: Float[Tensor, "K"]
    b: Float[Tensor, "K"]
    std: Float[Tensor, "K"]

    # Below this a step counts as deterministic: float32 latents are rounded by as much.
    SMALLEST_STD: ClassVar[float] = 1e-7

    @classmethod
    def build(
        cls,
        kernel: Kernel,
        process: Process,
        times: Float[Tensor, "K1"],
        *,
        stochastic: Bool[Tensor, "K"] | None = None,
    ) -> Transitions:
        """Compute the coefficients of every step.

        Args:
            kernel: the stochastic kernel.
            process: the forward process of the model.
            times: descending times.
            stochastic: steps to take with the kernel; the others follow the ODE, so that an
                SDE window is nothing but a mask. Default: all.
        """
        times = times.double().cpu()
        t, s = times[:-1], times[1:]
        rows = kernel.coefficients(process, t, s)
        if stochastic is not None:
            fallback = ODE().coefficients(process, t, s)
            rows = tuple(  # type: ignore[assignment]  # three in, three out
                torch.where(stochastic, row, ode) for row, ode in zip(rows, fallback, strict=True)
            )
        a, b, std = rows
        return cls(times, a, b, torch.where(std > cls.SMALLEST_STD, std, 0))

    def __len__(self) -> int:
        return len(self.a)

    @property
    def stochastic(self) -> Bool[Tensor, "K"]:
        """True for each step that has a density."""
        return self.std > 0

    @property
    def kl_weight(self) -> Float[Tensor, "K"]:
        """W = b^2 / (2 std^2), eqs. (T3), (T4); 0 at deterministic steps, which carry no KL."""
        safe = torch.where(self.stochastic, self.std, 1)
        return torch.where(self.stochastic, self.b**2 / (2 * safe**2), 0)

    @cached_property
    def _tables(self) -> dict[torch.device, Tensor]:
        """a, b and std in float32, shape (3, K), on each device that has asked."""
        return {torch.device("cpu"): torch.stack([self.a, self.b, self.std]).float()}

    def step(self, index: Int[Tensor, "B"], *, device: torch.device | str = "cpu") -> Step:
        """Return the coefficients of one step per sample, float32, on ``device``.

        Nothing is copied to it where the index is there.
        """
        place = torch.device(device)
        if place not in self._tables:
            self._tables[place] = self._tables[torch.device("cpu")].to(place)
        rows = self._tables[place][:, index.to(place)]
        return Step(rows[0], rows[1], rows[2])


def reduce_dimensions(x: Float[Tensor, "B *D"], reduction: Reduction) -> Float[Tensor, "B"]:
    """Sum or average over the D latent dimensions."""
    flat = x.flatten(1)
    return flat.sum(1) if reduction == "sum" else flat.mean(1)


def step_mean(
    step: Step, x_t: Float[Tensor, "B *D"], velocity: Float[Tensor, "B *D"]
) -> Float[Tensor, "B *D"]:
    """The mean a x_t + b v of eq. (T1), in float32."""
    return per_row(step.a, x_t) * x_t.float() + per_row(step.b, x_t) * velocity.float()


def step_sample(
    step: Step,
    x_t: Float[Tensor, "B *D"],
    velocity: Float[Tensor, "B *D"],
    noise: Float[Tensor, "B *D"],
) -> Float[Tensor, "B *D"]:
    """Draw x_s = a x_t + b v + std noise. Eq. (T1)."""
    return step_mean(step, x_t, velocity) + per_row(step.std, x_t) * noise


def step_log_prob(
    step: Step,
    x_s: Float[Tensor, "B *D"],
    x_t: Float[Tensor, "B *D"],
    velocity: Float[Tensor, "B *D"],
    *,
    reduction: Reduction = "sum",
) -> Float[Tensor, "B"]:
    """log p(x_s | x_t), in float32. Eq. (T2).

    Args:
        step: coefficients; rows with std 0 have no density and give exactly 0.
        x_s: where the step went (as stored: rounded before, not after, its log-probability).
        x_t: where it came from.
        velocity: the policy's velocity at x_t.
        reduction: over the D latent dimensions.
    """
    has_density = step.std > 0
    std = torch.where(has_density, step.std, 1)
    # What does not depend on the policy comes first: autograd then sees three operations.
    travelled = x_s.float() - per_row(step.a, x_t) * x_t.float()
    deviation = torch.addcmul(travelled, per_row(step.b, x_t), velocity.float(), value=-1)
    squares = reduce_dimensions(deviation.square(), reduction)
    num_dimensions = x_s[0].numel() if reduction == "sum" else 1
    normalisation = (std.log() + 0.5 * math.log(2 * math.pi)) * -num_dimensions
    log_density = torch.addcdiv(normalisation, squares, std**2, value=-0.5)
    return torch.where(has_density, log_density, 0)
