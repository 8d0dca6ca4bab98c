"""Kernels: how a step from time t back to s < t becomes the coefficients of eq. (T1).

With a rate g, the reverse-time SDE that keeps the marginals is
dx = (v - g^2/2 score) dt + g dw, and one Euler step back by dt = t - s gives

    mean = x_t - dt (v + g^2 / (2 sigma) noise),   std = g sqrt(dt),

which (P3) makes affine in x_t and v. The posterior kernels (ddim, cps) predict (x0, noise)
and set x_s = alpha_s x0 + m noise + std z with m^2 = sigma_s^2 - std^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ddrl.diffusion.process import Process
from ddrl.errors import UsageError

Coefficients = tuple[Tensor, Tensor, Tensor]


@runtime_checkable  # so that shape checking can meet it in a signature
class Kernel(Protocol):
    """Turns a pair of times into the coefficients of eq. (T1)."""

    def coefficients(self, process: Process, t: Tensor, s: Tensor) -> Coefficients:
        """Return (a, b, std), each of the shape of ``t``, for steps from ``t`` to ``s < t``."""
        ...


@dataclass(frozen=True)
class ODE:
    """Euler's step of the probability-flow ODE: deterministic."""

    def coefficients(self, process: Process, t: Tensor, s: Tensor) -> Coefficients:  # noqa: ARG002
        """a = 1, b = -(t - s), std = 0. Eq. (T1)."""
        return torch.ones_like(t), s - t, torch.zeros_like(t)


def _sde(process: Process, t: Tensor, s: Tensor, g2: Tensor) -> Coefficients:
    """Euler-Maruyama with g^2 = ``g2``; the noise of (P3) put into the module's formula."""
    dt = t - s
    drift = g2 / (2 * process.sigma(t) * process.det(t))
    a = 1 + dt * drift * process.alpha_dot(t)
    b = -dt * (1 + drift * process.alpha(t))
    return a, b, (g2 * dt).sqrt()


@dataclass(frozen=True)
class FlowSDE:
    """Flow-GRPO's SDE: g = eta sqrt(t / (1 - t)) for rectified flow.

    For any process g^2 = eta^2 sigma det / alpha, which is eta^2 / 2 times the square of the
    forward SDE's own rate. Where alpha is 0 (t = 1), the next time's alpha stands in for it; that
    first step has g^2 dt = eta^2 for any number of steps, which rectified flow then forgets
    slowly: the order of convergence is min(1, eta^2), where dance_sde and ddim have 1.
    Source: arXiv 2505.05470; eq. (T1).

    Attributes:
        eta: noise level; .5 to 1 is the useful range.
    """

    eta: float

    def coefficients(self, process: Process, t: Tensor, s: Tensor) -> Coefficients:
        """Eq. (T1), row ``flow_sde``."""
        alpha = process.alpha(t)
        alpha = torch.where(alpha > 0, alpha, process.alpha(s))
        return _sde(process, t, s, self.eta**2 * process.sigma(t) * process.det(t) / alpha)


@dataclass(frozen=True)
class DanceSDE:
    """DanceGRPO's SDE: g = eta, constant in time. Source: arXiv 2505.07818; eq. (T1).

    Attributes:
        eta: noise level.
    """

    eta: float

    def coefficients(self, process: Process, t: Tensor, s: Tensor) -> Coefficients:
        """Eq. (T1), row ``dance_sde``."""
        return _sde(process, t, s, torch.full_like(t, self.eta**2))


def _posterior(process: Process, t: Tensor, s: Tensor, variance: Tensor) -> Coefficients:
    """x_s = alpha_s x0 + m noise + std z, with (x0, noise) by (P3)."""
    m = (process.sigma(s) ** 2 - variance).clamp_min(0).sqrt()
    det = process.det(t)
    alpha_s = process.alpha(s)
    a = (alpha_s * process.sigma_dot(t) - m * process.alpha_dot(t)) / det
    b = (m * process.alpha(t) - alpha_s * process.sigma(t)) / det
    return a, b, variance.sqrt()


@dataclass(frozen=True)
class DDIM:
    """DDIM with noise: the exact posterior q(x_s | x_t, x0) at eta = 1 (ancestral sampling).

    Its last step (s = 0) has std 0. Source: arXiv 2010.02502, eq. (16); eq. (T1).

    Attributes:
        eta: in [0, 1]; 0 is deterministic DDIM.
    """

    eta: float

    def coefficients(self, process: Process, t: Tensor, s: Tensor) -> Coefficients:
        """Eq. (T1), row ``ddim``."""
        sigma_t, sigma_s = process.sigma(t), process.sigma(s)
        ratio = process.alpha(t) / process.alpha(s)
        variance = (self.eta * sigma_s / sigma_t) ** 2 * (sigma_t**2 - (ratio * sigma_s) ** 2)
        return _posterior(process, t, s, variance.clamp_min(0))


@dataclass(frozen=True)
class CPS:
    """Coefficients-preserving sampling: std = sigma_s sin(eta pi / 2). Source: arXiv 2509.05952.

    Exact for one x0, eq. (T4), but not a discretised SDE: std does not shrink with the step, and
    more steps do not remove its error. With K the spread of Gaussian samples tends to
    cos(eta pi / 4) times the truth, so keep eta small where fidelity counts.

    Attributes:
        eta: in [0, 1]; 0 is deterministic DDIM.
    """

    eta: float

    def coefficients(self, process: Process, t: Tensor, s: Tensor) -> Coefficients:
        """Eq. (T1), row ``cps``."""
        return _posterior(process, t, s, (process.sigma(s) * math.sin(self.eta * math.pi / 2)) ** 2)


KERNELS: dict[str, type[FlowSDE | DanceSDE | DDIM | CPS] | type[ODE]] = {
    "ode": ODE,
    "flow_sde": FlowSDE,
    "dance_sde": DanceSDE,
    "ddim": DDIM,
    "cps": CPS,
}


def make_kernel(name: str, *, eta: float) -> Kernel:
    """Return the kernel of this name.

    Raises:
        UsageError: no kernel has this name, or eta is outside its range.
    """
    if name not in KERNELS:
        raise UsageError(f"Unknown kernel {name!r}.", hint=f"one of {', '.join(KERNELS)}")
    if name == "ode":
        return ODE()
    if eta < 0 or (name in {"ddim", "cps"} and eta > 1):
        raise UsageError(f"Kernel {name} can't take eta {eta}.", hint="ddim and cps: 0 to 1")
    kernel = KERNELS[name]
    assert kernel is not ODE
    return kernel(eta=eta)  # type: ignore[call-arg]  # every other kernel has this one field
