"""A truth that one can compute: Gaussian data, whose exact velocity is affine.

With x0 ~ N(mu, S^2), x_t has mean alpha mu and variance V = alpha^2 S^2 + sigma^2, and

    v(x, t) = alpha' E[x0 | x] + sigma' E[noise | x] = alpha' mu + c (x - alpha mu),
    c = (alpha' alpha S^2 + sigma' sigma) / V,

so that every step (T1) maps (mean, variance) to (mean, variance) without any sampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.diffusion.process import Process
from ddrl.diffusion.transition import Transitions


@dataclass(frozen=True)
class GaussianData:
    """x0 ~ N(mean, std^2); std 0 is a point mass."""

    mean: float
    std: float

    def marginal(self, process: Process, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of x_t, in closed form."""
        alpha = process.alpha(t)
        return alpha * self.mean, alpha**2 * self.std**2 + process.sigma(t) ** 2

    def velocity(self, process: Process, t: Tensor) -> tuple[Tensor, Tensor]:
        """(c, d) of the exact velocity c x + d, for t > 0."""
        alpha, alpha_dot = process.alpha(t), process.alpha_dot(t)
        mean, variance = self.marginal(process, t)
        slope = alpha_dot * alpha * self.std**2 + process.sigma_dot(t) * process.sigma(t)
        slope = slope / variance
        return slope, alpha_dot * self.mean - slope * mean

    def moments(self, transitions: Transitions, process: Process) -> tuple[Tensor, Tensor]:
        """Mean and variance at every time of a sampler started from the exact marginal."""
        slope, offset = self.velocity(process, transitions.times[:-1])
        gains = (transitions.a + transitions.b * slope).tolist()
        shifts = (transitions.b * offset).tolist()
        start = self.marginal(process, transitions.times[:1])
        means, variances = [float(start[0])], [float(start[1])]
        for gain, shift, std in zip(gains, shifts, transitions.std.tolist(), strict=True):
            means.append(gain * means[-1] + shift)
            variances.append(gain**2 * variances[-1] + std**2)
        return torch.tensor(means, dtype=torch.float64), torch.tensor(
            variances, dtype=torch.float64
        )

    def error(self, transitions: Transitions, process: Process) -> tuple[float, float]:
        """Error of the samples' mean and standard deviation at t = 0."""
        mean, variance = self.moments(transitions, process)
        return float(mean[-1]) - self.mean, float(variance[-1]) ** 0.5 - self.std
