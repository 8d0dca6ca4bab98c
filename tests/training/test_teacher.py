"""Teacher targets: the data term holds the policy to its start, at noised data."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.fakes import FakeCondition, FakeModel, FakeSink, Toy, fake_model, gradients, weights
from tests.training.test_loop import assert_same_state, without_seconds
from torch import Tensor

from ddrl.objective.loss import Objective
from ddrl.records import Anchor, Condition
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.forward import Forward
from ddrl.training.loop import restore, save, train
from ddrl.training.update import Gradient

TEACHER = Objective(data_target="teacher", condition_dropout=0.4, data_times="uniform")


def gradient_of(model: FakeModel, teacher: FakeModel, objective: Objective) -> Gradient:
    toy = Toy(num_steps=4, micro_batch=2)
    return Gradient(toy.sampler(model, seed=3), objective, reference=Forward(teacher))


def anchor() -> Anchor:
    x0 = torch.rand((6, 1, 2, 2), generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Anchor(x0, FakeCondition(torch.tensor([1, 2, 3, 1, 2, 3])), torch.arange(6))


def test_at_the_start_loss_and_gradient_are_exactly_0() -> None:
    model, teacher = FakeModel(seed=1), FakeModel(seed=1)
    metrics = gradient_of(model, teacher, TEACHER).data(anchor(), step=0, num_anchors=6)
    assert metrics["data_loss"] == 0
    assert metrics["data_term"] == 0
    assert not gradients(model).any()


def test_the_teacher_sees_what_the_policy_sees_and_has_no_gradient() -> None:
    """The same points, times and conditions (dropped texts, too), in as many passes."""
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    class Watched(FakeModel):
        def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
            assert isinstance(condition, FakeCondition)
            seen.append((x_t, t, condition.label))
            return super().predict(x_t, t, condition)

    model, teacher = Watched(seed=1), Watched(seed=2)
    gradient_of(model, teacher, TEACHER).data(anchor(), step=0, num_anchors=6)
    assert len(teacher.calls) == len(model.calls) == 12  # 4 steps, 6 samples, 2 per pass
    assert {grad for _, grad in teacher.calls} == {False}
    assert {grad for _, grad in model.calls} == {True}
    for theirs, mine in zip(seen[::2], seen[1::2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(theirs, mine, strict=True))
    assert any(bool((label == 0).any()) for *_, label in seen)
    assert all(p.grad is None for p in teacher.transformer.parameters())


def test_a_few_step_model_stays_under_teacher_targets_and_moves_under_data_targets() -> None:
    """The model's velocity is not that of the data: as after distillation."""

    def moved(objective: Objective) -> float:
        model, teacher = FakeModel(seed=1), FakeModel(seed=1)
        start = weights(model)
        gradient = gradient_of(model, teacher, objective)
        optimizer = torch.optim.AdamW(model.transformer.parameters(), lr=1e-2, weight_decay=0)
        for step in range(5):
            optimizer.zero_grad()
            gradient.data(anchor(), step=step, num_anchors=6)
            optimizer.step()
        return float((weights(model) - start).abs().max())

    assert moved(TEACHER) == 0
    assert moved(Objective()) > 1e-2


def test_the_reward_moves_the_policy_and_the_teacher_holds_it() -> None:
    def distance(beta: float) -> float:
        trainer = Toy(objective=Objective(data_target="teacher", beta=beta)).trainer()
        assert trainer.learner.reference is not None
        teacher = trainer.learner.reference.model
        assert isinstance(teacher, FakeModel)
        teacher.transformer.load_state_dict(fake_model(trainer).transformer.state_dict())
        start = weights(teacher)
        metrics = [trainer.iteration() for _ in range(20)]
        assert torch.equal(weights(teacher), start)
        return metrics[-1]["data_loss"]

    assert 0 < distance(100.0) < 0.3 * distance(1e-3)


def test_resume_is_the_straight_run(tmp_path: Path) -> None:
    settings = Toy(objective=TEACHER, num_updates=2, micro_batch=3)
    whole, after = FakeSink(), FakeSink()
    expected, first, resumed = settings.trainer(), settings.trainer(), settings.trainer()
    train(expected, 4, sinks=[whole])
    train(first, 2)
    restore(resumed, save(first, CheckpointFolder(tmp_path)))
    train(resumed, 4, sinks=[after])
    assert_same_state(resumed, expected)
    assert without_seconds(after.lines) == without_seconds(whole.lines)[2:]
