"""A variance-preserving process from the table of a discrete-time model (DDPM, Stable Diffusion).

The table has N values of alpha^2, at the N noise levels that the network was trained on. They
stand at t = 1/N, 2/N, ..., 1, and t = 0 is clean data, so that level n is the time (n + 1) / N.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from ddrl.diffusion.process import Process
from ddrl.errors import UsageError


@dataclass(frozen=True, eq=False)
class TabulatedVP(Process):
    """alpha^2 + sigma^2 = 1, with alpha from a table: exact at its times, smooth between them.

    What is interpolated is the loss of signal d = 1 - alpha, by a monotone cubic with a continuous
    derivative. Unlike log alpha or the signal-to-noise ratio it is finite at both ends, also for a
    table that ends in 0 (zero terminal SNR, arXiv 2305.08891), and it keeps its digits near t = 0:

        alpha = 1 - d,  sigma = sqrt(d (2 - d)),  alpha' = -d',  sigma' = alpha d' / sigma,

    so that det = d' / sigma > 0 even where alpha = 0.

    Attributes:
        alphas_cumprod: alpha^2 at t = 1/N to 1, in [0, 1) and decreasing, shape (N,).

    Raises:
        UsageError: the table is not such a table.
    """

    alphas_cumprod: Float[Tensor, "N"]
    _on: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        table = self.alphas_cumprod
        inside = bool((table >= 0).all()) and bool((table < 1).all())
        if len(table) < 2 or not inside or not bool((table.diff() < 0).all()):
            raise UsageError("A table of alpha^2 has to decrease, within [0, 1).")

    def __len__(self) -> int:
        """N, the number of the table's times."""
        return len(self.alphas_cumprod)

    @cached_property
    def _cubics(self) -> Tensor:
        """The coefficients of d on each interval, highest power first, float64, shape (4, N)."""
        alpha = self.alphas_cumprod.double().cpu().sqrt()
        loss = torch.cat([alpha.new_zeros(1), 1 - alpha])
        knots = torch.arange(len(loss), dtype=torch.float64)
        return torch.from_numpy(PchipInterpolator(knots.numpy(), loss.numpy()).c)

    def _loss(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d and d', float64, at times of any shape; outside [0, 1] the last cubic goes on."""
        if t.device not in self._on:
            self._on[t.device] = self._cubics.to(t.device)
        position = t.double() * len(self)
        interval = position.detach().floor().long().clamp(0, len(self) - 1)
        w = position - interval
        c3, c2, c1, c0 = self._on[t.device][:, interval]
        value = ((c3 * w + c2) * w + c1) * w + c0
        slope = (3 * c3 * w + 2 * c2) * w + c1
        return value, slope * len(self)

    def alpha(self, t: Tensor) -> Tensor:
        """1 - d."""
        return (1 - self._loss(t)[0]).to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - alpha^2), without the cancellation near t = 0."""
        loss, _ = self._loss(t)
        return (loss * (2 - loss)).sqrt().to(t.dtype)

    def alpha_dot(self, t: Tensor) -> Tensor:
        """-d'."""
        return -self._loss(t)[1].to(t.dtype)

    def sigma_dot(self, t: Tensor) -> Tensor:
        """alpha d' / sigma; infinite at t = 0."""
        loss, slope = self._loss(t)
        return ((1 - loss) * slope / (loss * (2 - loss)).sqrt()).to(t.dtype)
