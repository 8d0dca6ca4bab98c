"""The printed effective beta is what the norms of the two terms' gradients say, guidance or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from tests.fakes import FakeCondition, FakeModel, Toy
from tests.recipe.test_plan import plan
from torch import Tensor, nn

from ddrl.objective.loss import Objective
from ddrl.recipe.plan.lines import plan_lines
from ddrl.records import Advantages, Anchor, Condition
from ddrl.training.forward import Forward
from ddrl.training.update import Gradient

BETA, STEP = 0.7, 1
GROUP = torch.tensor([0, 0, 0, 0])


class Constant(FakeModel):
    """Its conditional velocity is a parameter, its unconditional one is fixed."""

    def __init__(self, velocity: Sequence[float]) -> None:
        super().__init__()
        self.transformer = nn.ParameterList([torch.tensor(velocity).reshape(1, 1, 2, 2)])

    @property
    def velocity(self) -> Tensor:
        return self.transformer[0]  # type: ignore[index, no-any-return]

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        assert isinstance(condition, FakeCondition)
        has_text = (condition.label > 0)[:, None, None, None]
        return torch.where(has_text, self.velocity, 0.3).expand_as(x_t)


def advantages(value: Tensor) -> Advantages:
    keep = torch.ones(len(value), dtype=torch.bool)
    return Advantages(value, keep, 0, scale=torch.ones(len(value)), clipped=~keep)


class Bench:
    """One trained step of four, at some guidance."""

    def __init__(self, guidance: float, regularizer: Literal["data", "reference"]) -> None:
        toy = Toy(num_steps=4, trained=(STEP,), guidance=guidance)
        self.model = Constant([0.5, -0.2, 0.1, 0.9])
        self.reference = Constant([0.1, 0.4, -0.6, 0.2])
        self.forward = Forward(self.model, guidance=guidance)
        self.held_to = Forward(self.reference, guidance=guidance)
        self.transitions = toy.transitions
        chosen = Objective(policy="reinforce", regularizer=regularizer, beta=BETA)
        self.gradient = Gradient(toy.sampler(self.model, seed=1), chosen, reference=self.held_to)
        sampler = toy.sampler(self.model, seed=2)
        self.trajectory = sampler.rollout(FakeCondition(torch.tensor([1])), GROUP, step=0)

    def measured(self) -> Tensor:
        """The gradient that has been added up, and is then forgotten."""
        found = self.model.velocity.grad
        assert found is not None
        self.model.velocity.grad = None
        return found[0]

    def policy_share(self) -> float:
        """Norm of the policy term's gradient, by that of A log p for the policy's velocity."""
        value = torch.tensor([1.0, -0.4, 0.3, -0.9])
        if self.gradient.objective.regularizer == "reference":
            self.gradient.set_beta(0.0)
        self.gradient.policy(self.trajectory, advantages(value))
        self.gradient.set_beta(BETA)
        a, b, std = (float(x[STEP]) for x in (self.transitions.a, self.transitions.b, self.std))
        x_t, x_s = self.trajectory.latents[:, STEP], self.trajectory.latents[:, STEP + 1]
        text = FakeCondition(torch.ones(4, dtype=torch.int64))
        with torch.no_grad():
            residual = x_s - a * x_t - b * self.forward(x_t, torch.full((4,), 0.75), text)
        pull = (value[:, None, None, None] * b / std**2 * residual).mean(0)
        return float(self.measured().norm() / pull.norm())

    @property
    def std(self) -> Tensor:
        return self.transitions.std

    def data_share(self) -> float:
        """Norm of a change of the data term's gradient, by that of the gradient of W ||dv||^2."""
        anchor = Anchor(
            torch.rand((3, 1, 2, 2), generator=torch.Generator().manual_seed(3)),
            FakeCondition(torch.tensor([1, 2, 3])),
            torch.arange(3),
        )
        change = torch.tensor([0.2, -0.1, 0.3, 0.4]).reshape(1, 2, 2)
        self.gradient.data(anchor, step=0, num_anchors=3)
        before = self.measured()
        with torch.no_grad():
            self.model.velocity.add_(change)
        self.gradient.data(anchor, step=0, num_anchors=3)
        weight = float(self.transitions.kl_weight[STEP])
        return float((self.measured() - before).norm() / (2 * weight * change).norm())

    def reference_share(self) -> float:
        """Norm of the reference term's gradient, by that of W ||dv||^2 of guided velocities."""
        self.gradient.policy(self.trajectory, advantages(torch.zeros(4)))
        guidance = self.forward.guidance
        error = guidance * (self.model.velocity - self.reference.velocity).detach()
        weight = float(self.transitions.kl_weight[STEP])
        return float(self.measured().norm() / (2 * weight * error).norm())


@pytest.mark.parametrize("guidance", [0.5, 1.0, 3.0, 7.5])
@pytest.mark.parametrize("regularizer", ["data", "reference"])
def test_the_printed_beta_is_the_ratio_of_the_gradients(
    regularizer: Literal["data", "reference"], guidance: float
) -> None:
    bench = Bench(guidance, regularizer)
    made = plan(
        f"objective.beta={BETA}",
        f"objective.regularizer={regularizer}",
        f"rollout.guidance={guidance}",
        f"rollout.trained_steps=[{STEP}]",
    )
    (printed,) = made.effective_beta
    policy = bench.policy_share()
    assert policy == pytest.approx(guidance, rel=1e-4)
    held = bench.data_share() if regularizer == "data" else bench.reference_share()
    assert held / policy == pytest.approx(printed, rel=1e-4)
    assert bench.gradient.effective_beta == pytest.approx(printed)
    assert any(f"one effective beta, {printed:.4g}" in line for line in plan_lines(made))
