from __future__ import annotations

import pytest
from tests.recipe.texts import recipe

from ddrl.diffusion.kernels import make_kernel
from ddrl.diffusion.process import RectifiedFlow
from ddrl.diffusion.schedule import select_steps, time_grid
from ddrl.diffusion.transition import Transitions
from ddrl.recipe import stochastic_steps, trained_steps
from ddrl.recipe.sections.run import RolloutSection

CASES = [
    (["rollout.kernel=flow_sde"], (0, 1, 2, 3), (0, 1, 2, 3)),
    (["rollout.kernel=ddim"], (0, 1, 2), (0, 1, 2)),
    (["rollout.kernel=cps", "rollout.trained_steps=[2, 0]"], (0, 1, 2), (0, 2)),
    (["rollout.kernel=ddim", "rollout.stochastic_steps=[3, 1]"], (1,), (1,)),
    (["rollout.stochastic_steps=[0, 1]", "rollout.trained_steps=[1]"], (0, 1), (1,)),
]


@pytest.mark.parametrize(("overrides", "stochastic", "trained"), CASES)
def test_steps(overrides: list[str], stochastic: tuple[int, ...], trained: tuple[int, ...]) -> None:
    rollout = recipe("rollout.steps=4", *overrides).rollout
    assert stochastic_steps(rollout) == stochastic
    assert trained_steps(rollout) == trained


@pytest.mark.parametrize("kernel", ["flow_sde", "dance_sde", "ddim", "cps"])
@pytest.mark.parametrize("eta", [0.1, 0.7, 1.0])
def test_agrees_with_the_sampler(kernel: str, eta: float) -> None:
    rollout = recipe(f"rollout.kernel={kernel}", f"rollout.eta={eta}").rollout
    transitions = Transitions.build(
        make_kernel(kernel, eta=eta), RectifiedFlow(), time_grid(rollout.steps)
    )
    sampler = [bool(std > 0) for std in transitions.std]
    assert stochastic_steps(rollout) == select_steps("all", sampler)
    assert trained_steps(rollout) == select_steps("all", sampler)


@pytest.mark.parametrize(
    "rollout",
    [RolloutSection(kernel="ode"), RolloutSection(eta=0), RolloutSection(steps=1, kernel="cps")],
)
def test_a_deterministic_sampler_has_no_such_steps(rollout: RolloutSection) -> None:
    assert stochastic_steps(rollout) == trained_steps(rollout) == ()
