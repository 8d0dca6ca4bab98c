"""The guard stops for every limit, and for nothing else."""

from __future__ import annotations

import math

import pytest

from ddrl.errors import GuardStop
from ddrl.training.safety.guard import Guard

GOOD = {"reward": -3.0, "grad_norm": 1.0, "ratio_max": 1.2, "latent_std": 0.8}


@pytest.mark.parametrize(
    ("guard", "metric", "value"),
    [
        (Guard(), "grad_norm", 1.1e4),
        (Guard(), "ratio_max", 1.1e3),
        (Guard(), "latent_std", 11.0),
        (Guard(), "latent_std", 1e-4),
        (Guard(max_drift=0.1), "heldout_loss_change", 0.11),
        (Guard(max_grad_norm=2), "grad_norm", 2.1),
        (Guard(max_ratio=2), "ratio_max", 2.1),
        (Guard(max_latent_std=2), "latent_std", 2.1),
        (Guard(min_latent_std=0.5), "latent_std", 0.4),
    ],
)
def test_a_limit_that_is_passed(guard: Guard, metric: str, value: float) -> None:
    with pytest.raises(GuardStop, match=f"{metric} is .* at step 12") as caught:
        guard.check({**GOOD, metric: value}, step=12)
    assert caught.value.hint
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("name", ["reward", "grad_norm", "policy_loss", "seconds"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_always_stop(name: str, value: float) -> None:
    off = Guard(max_grad_norm=0, max_ratio=0, max_latent_std=0, min_latent_std=0)
    with pytest.raises(GuardStop, match=f"{name} is {value} at step 3"):
        off.check({**GOOD, name: value}, step=3)


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        GOOD,
        {**GOOD, "heldout_loss_change": 5.0},  # off by default: reported, not stopped
        {**GOOD, "grad_norm": 1e4, "ratio_max": 1e3, "latent_std": 10.0},  # at the limits
        {"latent_std": 1e-3},
    ],
)
def test_what_is_within_limits_goes_on(metrics: dict[str, float]) -> None:
    Guard().check(metrics, step=0)


def test_limits_can_be_switched_off() -> None:
    off = Guard(max_grad_norm=0, max_ratio=0, max_latent_std=0, min_latent_std=0, max_drift=0)
    extreme = {"grad_norm": 1e30, "ratio_max": 1e30, "latent_std": 0.0}
    off.check({**extreme, "heldout_loss_change": 1e30}, step=0)
    off.check({"latent_std": 1e30}, step=0)
    for name, value in extreme.items():
        with pytest.raises(GuardStop):
            Guard().check({name: value}, step=0)


def test_a_better_held_out_loss_is_no_drift() -> None:
    Guard(max_drift=0.1).check({"heldout_loss_change": -0.9}, step=0)
