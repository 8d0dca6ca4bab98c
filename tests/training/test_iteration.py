"""What an iteration makes of its parts: each setting, and each thing handed on, counts."""

from __future__ import annotations

import math
import time

import pytest
import torch
from tests.fakes import FakeReward, Toy, advantage, fake_model, weights
from torch import Tensor

from ddrl.errors import ReplayMismatch
from ddrl.objective.loss import Objective
from ddrl.records import Advantages, Anchor, Prompts, Trajectory
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.training.logs.clock import Clock
from ddrl.training.rollout import Sampler
from ddrl.training.safety.budget import DriftBudget
from ddrl.training.safety.guard import Guard
from ddrl.training.safety.inspector import Inspector
from ddrl.training.trainer import Trainer
from ddrl.training.update import Gradient

N = 8  # samples of a Toy


# --- rewards to advantages ----------------------------------------------------------------------


def asked(trainer: Trainer, patch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Rewards and which samples are kept, as the advantage is given them in one iteration."""
    seen = []

    def spy(rewards: Tensor, group: Tensor, keep: Tensor, prompt_id: Tensor) -> Advantages:
        seen.append((rewards, keep))
        assert group.tolist() == [0] * 4 + [1] * 4
        return advantage(rewards, group, keep, prompt_id)

    patch.setattr(trainer, "advantage", spy)
    trainer.iteration()
    return seen


def test_the_advantage_is_of_the_combined_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rewards in other units, normalised: 0 to 7 has the deviation sqrt(5.25)."""
    ramp = torch.arange(8.0)
    rewards = [
        WeightedReward("small", FakeReward(plant=ramp)),
        WeightedReward("large", FakeReward(plant=1000 * ramp.flip(0)), weight=0.5),
    ]
    trainer = Toy().trainer()
    trainer.collector.scorer = Scorer(rewards, combination="normalized")
    ((found, _),) = asked(trainer, monkeypatch)
    expected = (1 - 0.5) * (ramp - 3.5) / math.sqrt(5.25)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_advantage_is_told_whose_reward_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.linspace(0, 1, N)
    values[2] = math.nan
    trainer = Toy(reward=FakeReward(plant=values), on_failure="drop_sample").trainer()
    ((_, keep),) = asked(trainer, monkeypatch)
    assert keep.tolist() == [True, True, False] + [True] * 5


@pytest.mark.parametrize(("regularizer", "beta"), [("data", 0.5), ("none", 0.0)])
def test_effective_beta_is_0_without_a_regularizer(regularizer: str, beta: float) -> None:
    objective = Objective(regularizer=regularizer, beta=0.5)  # type: ignore[arg-type]
    metrics = Toy(objective=objective).trainer().iteration()
    assert metrics["reward_std"] > 0
    # An advantage is divided by the standard deviation and 1e-4.
    assert metrics["effective_beta"] == pytest.approx(beta * (metrics["reward_std"] + 1e-4))


# --- the replay ---------------------------------------------------------------------------------


def replayed_with(toy: Toy, patch: pytest.MonkeyPatch, off: Tensor) -> None:
    """One iteration whose replay is off by these log-ratios, (N, trained steps)."""
    original = Gradient.replay

    def planted(gradient: Gradient, trajectory: Trajectory) -> Tensor:
        return original(gradient, trajectory) + off

    patch.setattr(Gradient, "replay", planted)
    toy.trainer().iteration()


@pytest.mark.parametrize(
    ("log_ratio", "said"),
    [(-0.5, "0.393"), (0.004, "0.00401"), (math.nan, "nan")],
    ids=["below 1", "of one sample alone", "not a number"],
)
def test_one_ratio_that_is_off_is_refused(
    log_ratio: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is named by its number in the sampler, also where few are trained."""
    off = torch.zeros(N, 2)
    off[5, 1] = log_ratio
    with pytest.raises(ReplayMismatch, match=f"off by {said} at step 3, above"):
        replayed_with(Toy(trained=(0, 3)), monkeypatch, off)


def test_ratios_within_the_tolerance_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    replayed_with(Toy(trained=(0, 3)), monkeypatch, torch.full((N, 2), 0.0009))


def test_log_probabilities_are_reduced_alike_in_rollout_replay_and_update() -> None:
    metrics = Toy(objective=Objective(reduction="mean")).trainer().iteration()
    assert metrics["ratio_deviation"] < 1e-6


# --- the update ---------------------------------------------------------------------------------


def test_gradients_of_before_are_left_behind() -> None:
    trainer = Toy().trainer()
    for parameter in fake_model(trainer).transformer.parameters():
        parameter.grad = torch.full_like(parameter, 1000.0)
    assert trainer.iteration()["grad_norm"] == Toy().trainer().iteration()["grad_norm"]


@pytest.mark.parametrize(("grad_clip", "clips"), [(0.05, True), (1e4, False), (0.0, False)])
def test_a_step_is_no_longer_than_grad_clip(grad_clip: float, clips: bool) -> None:
    """Plain descent at a rate of 1 goes as far as the gradient is long."""
    trainer = Toy().trainer()
    model = fake_model(trainer)
    trainer.learner.optimizer = torch.optim.SGD(model.transformer.parameters(), lr=1.0)
    trainer.learner.scheduler = torch.optim.lr_scheduler.ConstantLR(
        trainer.learner.optimizer, factor=1.0
    )
    trainer.learner.grad_clip = grad_clip
    before = weights(model)
    metrics = trainer.iteration()
    assert metrics["grad_norm"] > 0.1
    length = grad_clip if clips else metrics["grad_norm"]
    assert float((weights(model) - before).norm()) == pytest.approx(length, rel=1e-3)


def test_the_data_term_draws_anew_in_every_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, steps = Toy().trainer(), []
    data = trainer.learner.gradients[0].data

    def spy(anchor: Anchor, *, step: int, num_anchors: int) -> dict[str, Tensor]:
        steps.append((step, len(anchor), num_anchors))
        return data(anchor, step=step, num_anchors=num_anchors)

    monkeypatch.setattr(trainer.learner.gradients[0], "data", spy)
    for _ in range(3):
        trainer.iteration()
    assert steps == [(0, 8, 8), (1, 8, 8), (2, 8, 8)]


def test_another_beta_is_the_next_iteration_s() -> None:
    trainer, other = Toy().trainer(), Toy().trainer()
    other.learner.set_beta(3.0)
    mine, theirs = trainer.iteration(), other.iteration()
    assert theirs["data_term"] == pytest.approx(3 * mine["data_term"], rel=1e-5)
    assert theirs["effective_beta"] == pytest.approx(3 * mine["effective_beta"])


def test_the_budget_measures_the_averaged_weights_and_sets_the_next_beta() -> None:
    trainer, same = Toy().trainer(), []

    def drift() -> float:
        network = dict(fake_model(trainer).transformer.named_parameters())
        averages = trainer.learner.ema.state_dict()
        same.append(all(torch.equal(network[name], averages[name]) for name in averages))
        return 0.06

    trainer.watch.budget = DriftBudget(drift, 0.03, 1.0, every=2)
    fixed = Toy().trainer()
    rows, others = ([each.iteration() for _ in range(3)] for each in (trainer, fixed))
    assert same == [True]
    assert rows[1]["beta"] == pytest.approx(math.exp(0.15))
    factors = [
        row["data_term"] / other["data_term"] for row, other in zip(rows, others, strict=True)
    ]
    assert factors == pytest.approx([1.0, 1.0, math.exp(0.15)], rel=1e-5)


# --- collecting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("micro_batch", [0, 3])
def test_members_of_a_group_are_neighbours(micro_batch: int) -> None:
    """On which the split of a rollout into updates relies: each part has some of every group."""
    trainer = Toy(micro_batch=micro_batch, storage_dtype=torch.bfloat16).trainer()
    decoded = []
    model = fake_model(trainer)

    class Spy(type(model)):  # type: ignore[misc]
        def decode(self, latents: Tensor, condition: object = None) -> Tensor:
            decoded.append(condition.label)  # type: ignore[attr-defined]
            return super().decode(latents)  # type: ignore[no-any-return]

    model.__class__ = Spy
    hand = trainer.dealer.deal(0)
    checked: list[Trajectory] = []

    class Sees(Inspector):
        def check(self, trajectory: Trajectory, sampler: Sampler, *, step: int) -> None:
            checked.append(trajectory)

    trainer.collector.inspector = Sees(Guard(), trainer.learner.gradients)
    found = trainer.collector.collect(hand, step=0, clock=Clock())
    (trajectory,) = checked
    assert trajectory is found.trajectory
    assert trajectory.group.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert trajectory.latents.dtype == torch.bfloat16
    # Labels count the empty text, too.
    assert (torch.cat(decoded) - 1).tolist() == hand.prompt_id.repeat_interleave(4).tolist()


def test_a_reward_is_asked_about_each_sample_s_own_prompt() -> None:
    asked_of = []

    class Asked(FakeReward):
        def score(self, media: Tensor, prompts: object) -> Tensor:
            asked_of.extend(prompts.text)  # type: ignore[attr-defined]
            return super().score(media, prompts)  # type: ignore[arg-type]

    trainer = Toy(reward=Asked()).trainer()
    texts = [
        trainer.collector.pool.prompts.text[i] for i in trainer.dealer.deal(0).prompt_id.tolist()
    ]
    trainer.iteration()
    assert asked_of == [texts[0]] * 4 + [texts[1]] * 4
    assert texts[0] != texts[1]


def test_seconds_of_rollout_reward_and_update_do_not_overlap() -> None:
    class Sleeps(FakeReward):
        def score(self, media: Tensor, prompts: Prompts) -> Tensor:
            time.sleep(0.1)
            return super().score(media, prompts)

    metrics = Toy(reward=Sleeps()).trainer().iteration()
    parts = {part: metrics[f"seconds/{part}"] for part in ("rollout", "reward", "update")}
    assert all(seconds > 0 for seconds in parts.values())
    assert parts["reward"] >= 0.1
    assert sum(parts.values()) <= metrics["seconds"]
