"""Eq. (L1) once more, slowly: loops over samples and steps, torch.distributions, float64.

It shares no code with what it checks but the names of random draws (ddrl.seeding); coefficients,
weights, times and clipping are written out from the equations.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import torch
from scipy.stats import norm
from tests.fakes import FakeCondition, FakeModel, Toy
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ddrl.records import Advantages, Anchor, Trajectory
from ddrl.seeding import generator


@dataclass
class SlowResult:
    """The loss, as a number that can be differentiated, and what the metrics should say."""

    loss: Tensor
    metrics: dict[str, float] = field(default_factory=dict)


def coefficients(toy: Toy, k: int) -> tuple[float, float, float]:
    """(a, b, std) of step k for rectified flow: the table of eq. (T1)."""
    t, s = 1 - k / toy.num_steps, 1 - (k + 1) / toy.num_steps
    dt = t - s
    if toy.kernel in {"flow_sde", "dance_sde"}:
        g = toy.eta
        if toy.kernel == "flow_sde":
            g *= math.sqrt(t / (1 - (s if k == 0 else t)))
        return (
            1 - g**2 * dt / (2 * t),
            -dt * (1 + g**2 * (1 - t) / (2 * t)),
            g * math.sqrt(dt),
        )
    if toy.kernel == "ddim":
        std = toy.eta * s / t * math.sqrt(t**2 - ((1 - t) / (1 - s)) ** 2 * s**2) if s else 0.0
    else:
        std = s * math.sin(toy.eta * math.pi / 2)
    m = math.sqrt(s**2 - std**2)
    return (1 - s) + m, -(1 - s) * t + m * (1 - t), std


class SlowLoss:
    """Eq. (L1) for the fake model."""

    def __init__(self, toy: Toy, model: FakeModel, reference: FakeModel, *, seed: int) -> None:
        self.toy, self.objective, self.seed = toy, toy.objective, seed
        self.model, self.reference = doubled(model), doubled(reference)
        self.steps = [coefficients(toy, k) for k in range(toy.num_steps)]
        self.trained = list(toy.trained_steps)
        kl_weight = {k: self.steps[k][1] ** 2 / (2 * self.steps[k][2] ** 2) for k in self.trained}
        power = {"path": 0.0, "velocity": -1.0, "geometric": -0.5}[self.objective.step_weight]
        raw = {k: kl_weight[k] ** power for k in self.trained}
        mean = sum(raw.values()) / len(raw)
        self.omega = {k: value / mean for k, value in raw.items()}

    def reduce(self, per_dimension: Tensor) -> Tensor:
        return per_dimension.sum() if self.objective.reduction == "sum" else per_dimension.mean()

    def velocity(self, model: FakeModel, x: Tensor, t: float, label: int) -> Tensor:
        return self._guided(model, x, t, label, self.toy.guidance)

    def _guided(self, model: FakeModel, x: Tensor, t: float, label: int, guidance: float) -> Tensor:
        def plain(number: int) -> Tensor:
            condition = FakeCondition(torch.tensor([number]))
            return model.predict(x[None], torch.tensor([t], dtype=torch.float64), condition)[0]

        if guidance == 1.0:
            return plain(label)
        empty = plain(0).detach()
        return empty + guidance * (plain(label) - empty)

    def transition(self, model: FakeModel, x: Tensor, k: int, label: int) -> Normal:
        a, b, std = self.steps[k]
        velocity = self.velocity(model, x, 1 - k / self.toy.num_steps, label)
        return Normal(a * x + b * velocity, std)

    def policy(
        self, trajectory: Trajectory, advantages: Advantages, behaviour: FakeModel
    ) -> SlowResult:
        """The policy term, and the reference term where there is one."""
        objective, behaviour = self.objective, doubled(behaviour)
        assert isinstance(trajectory.condition, FakeCondition)
        latents = trajectory.latents.double()
        kept = [n for n in range(len(trajectory)) if bool(advantages.keep[n])]
        loss = torch.zeros((), dtype=torch.float64)
        policy_loss, kl, ratios, clipped = 0.0, 0.0, [], 0
        for n in kept:
            label = int(trajectory.condition.label[trajectory.group[n]])
            for k in self.trained:
                x, x_next = latents[n, k], latents[n, k + 1]
                now = self.transition(self.model, x, k, label)
                with torch.no_grad():
                    then = self.transition(behaviour, x, k, label)
                    charged = self.charge(trajectory, advantages, behaviour, n, k)
                log_prob = self.reduce(log_density(now, x_next))
                ratio = (log_prob - self.reduce(log_density(then, x_next))).exp()
                value = float(advantages.value[n]) + charged
                term, binds = self.policy_term(log_prob, ratio, value)
                loss = loss + self.omega[k] * term / len(kept)
                policy_loss += self.omega[k] * float(term.detach())
                ratios.append(float(ratio.detach()))
                clipped += binds
                if objective.regularizer == "reference":
                    with torch.no_grad():
                        held_to = self.transition(self.reference, x, k, label)
                    divergence = self.reduce(kl_divergence(now, held_to))
                    loss = loss + self.omega[k] * objective.beta * divergence / len(kept)
                    kl += float(divergence.detach())
        pairs = len(kept) * len(self.trained)
        metrics = {
            "policy_loss": policy_loss / pairs,
            "ratio_deviation": sum(abs(ratio - 1) for ratio in ratios) / pairs,
            "ratio_max": max(ratios),
        }
        if objective.policy == "grpo":
            metrics["clip_fraction"] = clipped / pairs
        if objective.regularizer == "reference":
            metrics["reference_kl"] = kl / len(kept)
        return SlowResult(loss, metrics)

    def policy_term(self, log_prob: Tensor, ratio: Tensor, value: float) -> tuple[Tensor, bool]:
        high, low = 1 + self.objective.clip_high, 1 - self.objective.clip_low
        rho = float(ratio.detach())
        binds = (rho > high and value > 0) or (rho < low and value < 0)
        if self.objective.policy == "reinforce":
            return -value * log_prob, binds
        limited = min(max(rho, low), high)
        return (torch.tensor(-limited * value) if binds else -ratio * value), binds

    def charge(
        self, trajectory: Trajectory, advantages: Advantages, behaviour: FakeModel, n: int, k: int
    ) -> float:
        """-beta (KL to come of sample n after step k, less its mean over the kept of the group)."""
        if not self.objective.kl_in_return:
            return 0.0
        assert isinstance(trajectory.condition, FakeCondition)

        def to_come(member: int) -> float:
            assert isinstance(trajectory.condition, FakeCondition)
            label = int(trajectory.condition.label[trajectory.group[member]])
            total = 0.0
            for j in range(k + 1, self.toy.num_steps):
                if self.steps[j][2] == 0:
                    continue
                x = trajectory.latents[member, j].double()
                mine = self.transition(behaviour, x, j, label)
                total += float(
                    self.reduce(kl_divergence(mine, self.transition(self.reference, x, j, label)))
                )
            return total

        members = [
            m
            for m in range(len(trajectory))
            if trajectory.group[m] == trajectory.group[n] and bool(advantages.keep[m])
        ]
        mean = sum(to_come(m) for m in members) / len(members)
        return -self.objective.beta * (to_come(n) - mean)

    def data(self, anchor: Anchor, *, step: int, num_anchors: int) -> SlowResult:
        """The data term, eq. (T4): the KL of two steps from the same noised data."""
        assert isinstance(anchor.condition, FakeCondition)
        num_rows = len(self.trained) if self.objective.data_per_step == "all" else 1
        table = torch.rand(
            (num_anchors, 2, num_rows), generator=generator(self.seed, "anchor", step)
        )
        loss = torch.zeros((), dtype=torch.float64)
        errors = []
        for m in range(len(anchor)):
            name = int(anchor.sample_id[m])
            noises = torch.randn(
                (num_rows, *anchor.x0.shape[1:]),
                generator=generator(self.seed, "anchor", step, name),
            )
            for row in range(num_rows):
                t, k, weight = self.time(float(table[name, 0, row]), row, num_rows)
                dropped = float(table[name, 1, row]) < self.objective.condition_dropout
                label = 0 if dropped else int(anchor.condition.label[m])
                x0, noise = anchor.x0[m].double(), noises[row].double()
                x_t = (1 - t) * x0 + t * noise
                a, b, std = self.steps[k]
                velocity = self._guided(self.model, x_t, t, label, 1.0)
                now = Normal(a * x_t + b * velocity, std)
                target = noise - x0
                if self.objective.data_target == "teacher":
                    target = self._guided(self.reference, x_t, t, label, 1.0).detach()
                truth = Normal(a * x_t + b * target, std)
                divergence = self.reduce(kl_divergence(now, truth))
                loss = loss + self.omega[k] * self.objective.beta * weight * divergence / len(
                    anchor
                )
                errors.append(float(((velocity - target) ** 2).mean().detach()))
        metrics = {
            "data_loss": sum(errors) / len(errors),
            "data_term": float(loss.detach()),
        }
        return SlowResult(loss, metrics)

    def time(self, u: float, row: int, num_rows: int) -> tuple[float, int, float]:
        """Time, step and weight of one row of the data term."""
        count = len(self.trained)
        grid = [1 - k / self.toy.num_steps for k in range(self.toy.num_steps + 1)]
        if self.objective.data_times == "grid":
            if self.objective.data_per_step == "all":
                return grid[self.trained[row]], self.trained[row], 1.0
            k = self.trained[int(u * count)]
            return grid[k], k, float(count)

        def cdf(t: float) -> float:
            if self.objective.data_times == "uniform":
                return t
            return float(norm.cdf(math.log(t / (1 - t)))) if 0 < t < 1 else t

        masses = [cdf(grid[k]) - cdf(grid[k + 1]) for k in self.trained]
        left = u * sum(masses)
        for k, mass in zip(self.trained, masses, strict=True):  # noqa: B007 - used after the loop
            if left < mass:
                break
            left -= mass
        p = cdf(grid[k + 1]) + left
        t = p if self.objective.data_times == "uniform" else 1 / (1 + math.exp(-norm.ppf(p)))
        return t, k, sum(masses) / mass / num_rows


def log_density(normal: Normal, x: Tensor) -> Tensor:
    value: Tensor = normal.log_prob(x)  # type: ignore[no-untyped-call]
    return value


def doubled(model: FakeModel) -> FakeModel:
    model = copy.deepcopy(model)
    model.transformer.double()
    return model
