"""The method on a flow model whose optimum is known: does training arrive at it?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import jaxtyping
import pytest
import torch
from tests.analytic.flow_testbed import (
    BETA,
    DATA,
    OTHER,
    Setup,
    base_model,
    tilt_histogram,
    total_variation,
    train,
    tv_to_tilt,
    with_objective,
)

from ddrl.objective.loss import Objective

REFERENCE = Objective(policy="reinforce", regularizer="reference", beta=BETA)
QUICK = Setup(iterations=600, learning_rate=8e-3, ema_decay=0.99)
BASE_STEPS = 1200


@pytest.fixture(autouse=True)
def _no_shape_checks() -> Iterator[None]:
    """Shapes are checked by all other tests; here, checks would take half of the time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_ddrl_reaches_the_tilt_of_the_data() -> None:
    base = base_model(steps=BASE_STEPS)
    assert tv_to_tilt(base, QUICK) > 0.5
    assert tv_to_tilt(train(base, QUICK), QUICK) < 0.13


def test_the_velocity_step_weight_reaches_it_and_an_unshared_weight_does_not() -> None:
    base = base_model(steps=BASE_STEPS)
    shared = with_objective(QUICK, step_weight="velocity")
    assert tv_to_tilt(train(base, shared), shared) < 0.14
    # The common port: a plain velocity loss beside an unweighted log-probability.
    port = replace(QUICK, plain_velocity_coefficient=1.0, iterations=300)
    assert tv_to_tilt(train(base, port), port) > 0.3


def test_from_another_base_ddrl_still_reaches_the_data_and_the_reference_kl_does_not() -> None:
    base = base_model(OTHER, steps=BASE_STEPS)
    assert tv_to_tilt(base, QUICK) > 0.2
    assert tv_to_tilt(train(base, QUICK), QUICK) < 0.13
    reverse = replace(QUICK, objective=REFERENCE, iterations=300)
    assert tv_to_tilt(train(base, reverse, reference=base), reverse) > 0.25


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_long_run_comes_close() -> None:
    setup = Setup(num_steps=20, num_samples=512, iterations=3000)
    assert tv_to_tilt(train(base_model(), setup), setup) < 0.06


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_kl_to_come_removes_the_bias_of_a_per_step_penalty() -> None:
    base = base_model()
    per_step = Setup(objective=REFERENCE)
    in_return = with_objective(per_step, kl_in_return=True)
    biased = tv_to_tilt(train(base, per_step, reference=base), per_step)
    corrected = tv_to_tilt(train(base, in_return, reference=base), in_return)
    assert corrected < 0.75 * biased


@pytest.mark.slow
def test_without_a_regularizer_everything_goes_to_the_best_point() -> None:
    setup = with_objective(Setup(), regularizer="none")
    assert tv_to_tilt(train(base_model(), setup), setup) > 0.9


def test_the_target_is_the_data_where_the_reward_is_flat() -> None:
    flat = tilt_histogram(DATA, beta=1e9)
    assert float(flat.sum()) == pytest.approx(1.0)
    samples = torch.linspace(-4, 4, 1001)
    assert total_variation(samples, flat) > 0.1  # a uniform law is not the data
