"""omega_k of eq. (L1), and that sharing it leaves one beta for every step."""

from __future__ import annotations

import pytest
import torch

from ddrl.diffusion.kernels import FlowSDE
from ddrl.diffusion.process import RectifiedFlow
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.transition import Transitions
from ddrl.objective.loss import Objective, StepWeight, step_weights

NAMES: list[StepWeight] = ["path", "velocity", "geometric"]
KL_WEIGHT = Transitions.build(FlowSDE(0.7), RectifiedFlow(), time_grid(10)).kl_weight
SUBSETS = [tuple(range(10)), (0, 4, 9), (3,)]


@pytest.mark.parametrize("trained", SUBSETS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_mean_1_over_the_trained_steps_and_0_elsewhere(
    name: StepWeight, trained: tuple[int, ...]
) -> None:
    omega = step_weights(KL_WEIGHT, trained, name=name)
    assert omega.shape == (10,)
    assert float(omega[list(trained)].mean()) == pytest.approx(1)
    rest = [k for k in range(10) if k not in trained]
    assert (omega[rest] == 0).all()
    assert (omega[list(trained)] > 0).all()


@pytest.mark.parametrize("trained", SUBSETS, ids=str)
def test_what_the_data_term_becomes(trained: tuple[int, ...]) -> None:
    steps = list(trained)
    weight = KL_WEIGHT[steps]
    path, velocity, geometric = (
        step_weights(KL_WEIGHT, trained, name=name)[steps] for name in NAMES
    )
    torch.testing.assert_close(path, torch.ones_like(path))
    # velocity: omega W is the same at every step, the plain velocity loss
    torch.testing.assert_close(velocity * weight, (velocity * weight)[:1].expand(len(steps)))
    # geometric: halfway between the two in the exponent, up to a constant
    ratio = geometric**2 / (path * velocity)
    torch.testing.assert_close(ratio, ratio[:1].expand(len(steps)))


def test_by_hand() -> None:
    weight = torch.tensor([4.0, 0.0, 1.0], dtype=torch.float64)
    assert step_weights(weight, (0, 2), name="path").tolist() == [1, 0, 1]
    velocity = step_weights(weight, (0, 2), name="velocity")
    torch.testing.assert_close(velocity, torch.tensor([0.4, 0, 1.6], dtype=torch.float64))
    geometric = step_weights(weight, (0, 2), name="geometric")
    torch.testing.assert_close(geometric, torch.tensor([2 / 3, 0, 4 / 3], dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
def test_a_shared_weight_leaves_the_stationary_points(name: StepWeight) -> None:
    """Per step, -A grad log p + beta W grad ||v - v*||^2 vanishes at the same v for any omega.

    One dimension, one free v per step, and a quadratic stand-in c (v - u)^2 for the policy term.
    """
    c, u, target, beta = torch.linspace(0.1, 2, 10), 1.5, -0.5, 0.7
    omega = step_weights(KL_WEIGHT, tuple(range(10)), name=name)
    v = torch.zeros(10, dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        terms = c * (v - u) ** 2 + beta * KL_WEIGHT * (v - target) ** 2
        return (omega * terms).sum()

    (gradient,) = torch.autograd.grad(loss(), v)
    curvature = 2 * omega * (c + beta * KL_WEIGHT)
    minimum = v.detach() - gradient / curvature
    unweighted = (c * u + beta * KL_WEIGHT * target) / (c + beta * KL_WEIGHT)
    torch.testing.assert_close(minimum, unweighted)


def test_the_default_is_the_paper_s_method() -> None:
    objective = Objective()
    assert (objective.policy, objective.regularizer) == ("grpo", "data")
    assert (objective.reduction, objective.data_times) == ("sum", "grid")
    with pytest.raises(AttributeError):
        objective.beta = 2.0  # type: ignore[misc]
