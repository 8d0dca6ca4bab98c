"""Where rollout and update compute in different ways, ratios are to the update's own."""

from __future__ import annotations

import logging

import pytest
import torch
from tests.fakes import FakeModel, Toy, fake_model, gradients
from torch import Tensor

from ddrl.errors import ReplayMismatch
from ddrl.objective.loss import Objective
from ddrl.records import Condition
from ddrl.training.trainer import Trainer

OFF = 1e-2  # of the velocity: the ratios to the rollout's probabilities are then far from 1


class Compiled(FakeModel):
    """Computes otherwise where there is a gradient, as compiled blocks do in bfloat16."""

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        velocity = super().predict(x_t, t, condition)
        return velocity + OFF * x_t if torch.is_grad_enabled() else velocity


class Drifting(FakeModel):
    """Never computes the same."""

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        velocity = super().predict(x_t, t, condition)
        return velocity + OFF * len(self.calls) * torch.ones_like(x_t)


def trainer_of(toy: Toy, model: FakeModel, *, own: bool = True) -> Trainer:
    trainer = toy.trainer(model)
    for gradient in trainer.learner.gradients:
        gradient.own_ratio = own
    return trainer


@pytest.mark.parametrize("policy", ["grpo", "reinforce"])
@pytest.mark.parametrize("steps_per_pass", [1, 3])
def test_the_first_ratio_is_exactly_1(policy: str, steps_per_pass: int) -> None:
    toy = Toy(objective=Objective(policy=policy), micro_batch=3, steps_per_pass=steps_per_pass)  # type: ignore[arg-type]
    metrics = trainer_of(toy, Compiled()).iteration()
    assert metrics["ratio_deviation"] == 0
    assert metrics["ratio_max"] == 1
    assert metrics["rollout_deviation"] > 1e-3
    trainer = trainer_of(toy.but(replay_tolerance=1.0), Compiled(), own=False)
    metrics = trainer.iteration()
    assert metrics["ratio_deviation"] > 1e-3
    assert "rollout_deviation" not in metrics


def test_an_exact_rollout_gives_the_same_gradient() -> None:
    found = []
    for own in (False, True):
        trainer = trainer_of(Toy(micro_batch=3), FakeModel(), own=own)
        trainer.iteration()
        found.append(gradients(fake_model(trainer)))
    assert found[0].any()
    torch.testing.assert_close(found[1], found[0])


def test_later_updates_have_ratios_to_the_update_before_any_moved() -> None:
    """The ratios of the second update are those of one that replays with a copy of the weights."""
    toy = Toy(num_updates=2, micro_batch=3, learning_rate=1e-12)
    metrics = trainer_of(toy, Compiled()).iteration()
    assert metrics["ratio_deviation"] < 1e-6  # the weights have hardly moved
    assert metrics["rollout_deviation"] > 1e-3
    moved = trainer_of(toy.but(learning_rate=1e-2), Compiled()).iteration()
    exact = trainer_of(toy.but(learning_rate=1e-2), FakeModel(), own=False).iteration()
    assert moved["ratio_deviation"] == pytest.approx(exact["ratio_deviation"], rel=0.2)


def test_the_distance_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="ddrl"):
        trainer_of(Toy(), Compiled()).iteration()
    (line,) = (r.getMessage() for r in caplog.records if "ratios are to" in r.getMessage())
    assert "differ by up to 0" in line


def test_an_update_that_does_not_repeat_itself_is_refused() -> None:
    with pytest.raises(ReplayMismatch, match="off by"):
        trainer_of(Toy(), Drifting()).iteration()


def test_a_rollout_that_differs_is_refused_where_ratios_are_to_it() -> None:
    with pytest.raises(ReplayMismatch, match="off by"):
        trainer_of(Toy(), Compiled(), own=False).iteration()
