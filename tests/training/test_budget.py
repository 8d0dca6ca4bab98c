"""The drift budget: beta rests where drift meets it, and a resumed run goes on from there."""

from __future__ import annotations

import math

import pytest

from ddrl.errors import CheckpointError
from ddrl.training.safety.budget import MAX_FACTOR, MAX_RANGE, DriftBudget


def fixed(drift: float, *, beta: float = 1.0, budget: float = 0.03) -> DriftBudget:
    return DriftBudget(lambda: drift, budget, beta)


def test_one_correction_is_the_formula() -> None:
    metrics = fixed(0.036, beta=2.0).correct()
    assert metrics["beta"] == pytest.approx(2.0 * math.exp(0.15 * 0.2))
    assert metrics["budget_drift"] == 0.036


def test_the_second_answers_to_the_change_too() -> None:
    drifts = iter((0.03, 0.036))
    controller = DriftBudget(lambda: next(drifts), 0.03, 1.0)
    assert controller.correct()["beta"] == 1.0
    assert controller.correct()["beta"] == pytest.approx(math.exp(0.15 * 0.2 + 0.5 * 0.2))


@pytest.mark.parametrize(("drift", "factor"), [(1.0, MAX_FACTOR), (-1.0, 1 / MAX_FACTOR)])
def test_a_correction_is_bounded(drift: float, factor: float) -> None:
    assert fixed(drift).correct()["beta"] == pytest.approx(factor)


def test_what_could_not_be_measured_counts_as_drift() -> None:
    assert fixed(math.nan).correct()["beta"] == pytest.approx(MAX_FACTOR)


def test_beta_stays_in_its_range() -> None:
    low, high = fixed(-1.0, beta=2.0), fixed(1.0, beta=2.0)
    for _ in range(60):
        low.correct()
        high.correct()
    assert low.beta == pytest.approx(2.0 / MAX_RANGE)
    assert high.beta == pytest.approx(2.0 * MAX_RANGE)


@pytest.mark.parametrize("beta", [0.05, 1.0, 20.0])
def test_drift_comes_to_rest_at_the_budget(beta: float) -> None:
    """On a policy whose drift follows 0.03 / beta with the lag of training, from any start."""
    drift = 0.0
    controller = DriftBudget(lambda: drift, 0.03, beta)
    seen = []
    for _ in range(120):
        controller.correct()
        drift += 0.25 * (0.03 / controller.beta - drift)
        seen.append(drift)
    assert seen[-20:] == pytest.approx([0.03] * 20, rel=0.1)
    assert controller.beta == pytest.approx(1.0, rel=0.1)


def test_it_is_due_every_few_iterations() -> None:
    controller = DriftBudget(lambda: 0.0, 0.03, 1.0, every=3)
    assert [step for step in range(1, 10) if controller.is_due(step)] == [3, 6, 9]


def test_a_resumed_controller_goes_on() -> None:
    def controller() -> DriftBudget:
        return DriftBudget(lambda: next(drifts), 0.03, 1.0)

    drifts = iter((0.05, 0.02, 0.04))
    straight = controller()
    expected = [straight.correct()["beta"] for _ in range(3)]
    drifts = iter((0.05, 0.02, 0.04))
    before, after = controller(), controller()
    before.correct()
    before.correct()
    after.load_state_dict(before.state_dict())
    assert after.correct()["beta"] == expected[2]


def test_a_state_of_another_run_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no beta"):
        fixed(0.0).load_state_dict({})
