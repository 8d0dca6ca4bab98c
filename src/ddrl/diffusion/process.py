"""The forward process, eqs. (P1) to (P3).

(P1)  x_t = alpha_t x0 + sigma_t noise,        t = 0 data, t = 1 noise
(P2)  v   = alpha'_t x0 + sigma'_t noise       the velocity d x_t / dt

(P1) and (P2) are two linear equations in (x0, noise). With det = alpha sigma' - sigma alpha'

(P3)  x0    = (sigma' x_t - sigma v) / det
      noise = (alpha v - alpha' x_t) / det
      score = -noise / sigma

which for rectified flow (det = 1) is x0 = x_t - t v and noise = x_t + (1 - t) v.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

Prediction = Literal["velocity", "noise", "x0", "v"]
"""The output of a network. ``"v"`` is v-prediction of VP models, alpha noise - sigma x0."""


def per_row(t: Tensor, x: Tensor) -> Tensor:
    """Shape (B,) -> (B, 1, ...), to multiply a batch by one number per row."""
    return t.reshape(-1, *[1] * (x.ndim - 1))


class Process(ABC):
    """A Gaussian forward process. Subclasses give alpha, sigma and their derivatives."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The factor of the data at time ``t`` (any shape)."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The factor of the noise at time ``t`` (any shape)."""

    @abstractmethod
    def alpha_dot(self, t: Tensor) -> Tensor:
        """d alpha / dt."""

    @abstractmethod
    def sigma_dot(self, t: Tensor) -> Tensor:
        """d sigma / dt."""

    def det(self, t: Tensor) -> Tensor:
        """alpha sigma' - sigma alpha', the determinant of (P1), (P2); positive for t > 0."""
        return self.alpha(t) * self.sigma_dot(t) - self.sigma(t) * self.alpha_dot(t)

    def add_noise(
        self, x0: Float[Tensor, "B *D"], noise: Float[Tensor, "B *D"], t: Float[Tensor, "B"]
    ) -> Float[Tensor, "B *D"]:
        """Return x_t. Eq. (P1)."""
        return per_row(self.alpha(t), x0) * x0 + per_row(self.sigma(t), x0) * noise

    def velocity(
        self, x0: Float[Tensor, "B *D"], noise: Float[Tensor, "B *D"], t: Float[Tensor, "B"]
    ) -> Float[Tensor, "B *D"]:
        """Return v, the target of the diffusion loss. Eq. (P2)."""
        return per_row(self.alpha_dot(t), x0) * x0 + per_row(self.sigma_dot(t), x0) * noise

    def to_x0(
        self, x_t: Float[Tensor, "B *D"], velocity: Float[Tensor, "B *D"], t: Float[Tensor, "B"]
    ) -> Float[Tensor, "B *D"]:
        """Return the clean sample that a velocity implies. Eq. (P3)."""
        det = per_row(self.det(t), x_t)
        return (
            per_row(self.sigma_dot(t), x_t) * x_t - per_row(self.sigma(t), x_t) * velocity
        ) / det

    def to_noise(
        self, x_t: Float[Tensor, "B *D"], velocity: Float[Tensor, "B *D"], t: Float[Tensor, "B"]
    ) -> Float[Tensor, "B *D"]:
        """Return the noise that a velocity implies. Eq. (P3)."""
        det = per_row(self.det(t), x_t)
        return (
            per_row(self.alpha(t), x_t) * velocity - per_row(self.alpha_dot(t), x_t) * x_t
        ) / det

    def score(
        self, x_t: Float[Tensor, "B *D"], velocity: Float[Tensor, "B *D"], t: Float[Tensor, "B"]
    ) -> Float[Tensor, "B *D"]:
        """Return grad log p_t(x_t), the score function that a velocity implies. Eq. (P3)."""
        return -self.to_noise(x_t, velocity, t) / per_row(self.sigma(t), x_t)

    def to_velocity(
        self,
        output: Float[Tensor, "B *D"],
        x_t: Float[Tensor, "B *D"],
        t: Float[Tensor, "B"],
        *,
        prediction: Prediction,
    ) -> Float[Tensor, "B *D"]:
        """Convert a network's output to the velocity of eq. (P2).

        Args:
            output: what the network predicted.
            x_t: its input.
            t: its times, in (0, 1), where the conversion is not singular.
            prediction: what the output is.
        """
        if prediction == "velocity":
            return output
        alpha, sigma = per_row(self.alpha(t), x_t), per_row(self.sigma(t), x_t)
        if prediction == "noise":
            noise = output
            x0 = (x_t - sigma * noise) / alpha
        elif prediction == "x0":
            x0 = output
            noise = (x_t - alpha * x0) / sigma
        else:
            scale = alpha**2 + sigma**2
            x0 = (alpha * x_t - sigma * output) / scale
            noise = (sigma * x_t + alpha * output) / scale
        return self.velocity(x0, noise, t)


@dataclass(frozen=True)
class RectifiedFlow(Process):
    """alpha = 1 - t, sigma = t, v = noise - x0. Source: arXiv 2209.03003."""

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """The time itself."""
        return t

    def alpha_dot(self, t: Tensor) -> Tensor:
        """-1."""
        return -t.new_ones(t.shape)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """1."""
        return t.new_ones(t.shape)

    def velocity(
        self,
        x0: Float[Tensor, "B *D"],
        noise: Float[Tensor, "B *D"],
        t: Float[Tensor, "B"],  # noqa: ARG002 - it is the same at all times
    ) -> Float[Tensor, "B *D"]:
        """Noise - x0, eq. (P2) without multiplying by 1."""
        return noise - x0


@dataclass(frozen=True)
class VariancePreserving(Process):
    """alpha^2 + sigma^2 = 1 with a linear rate: log alpha = -t beta_min/2 - t^2 (max - min)/4.

    The continuous limit of DDPM's linear schedule. Source: arXiv 2011.13456, eq. (33).

    Attributes:
        beta_min: the rate at t = 0.
        beta_max: the rate at t = 1.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def _rate(self, t: Tensor) -> Tensor:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def alpha(self, t: Tensor) -> Tensor:
        """exp(-(1/2) integral of the rate)."""
        return (-0.5 * t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - alpha^2), without the cancellation near t = 0."""
        exponent = -t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))
        return (-exponent.expm1()).sqrt()

    def alpha_dot(self, t: Tensor) -> Tensor:
        """-(1/2) rate alpha."""
        return -0.5 * self._rate(t) * self.alpha(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """-alpha alpha' / sigma; infinite at t = 0."""
        return -self.alpha(t) * self.alpha_dot(t) / self.sigma(t).clamp_min(math.ulp(0.0))
