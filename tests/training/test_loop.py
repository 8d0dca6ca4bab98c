"""Stopping at any step and resuming is the straight run, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from tests.fakes import FakeReward, FakeSink, Toy, fake_model, weights
from torch import Tensor

from ddrl.errors import CheckpointError, GuardStop
from ddrl.objective.loss import Objective
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.guard import Guard
from ddrl.training.loop import restore, save, train
from ddrl.training.rollout import rollout
from ddrl.training.trainer import Trainer

NUM_STEPS = 4
Line = dict[str, float]


def without_seconds(lines: list[Line]) -> list[Line]:
    return [{k: v for k, v in line.items() if not k.startswith("seconds")} for line in lines]


def next_samples(trainer: Trainer) -> Tensor:
    return rollout(
        trainer.forward,
        trainer.pool.condition[torch.arange(3)],
        torch.tensor([0, 1, 2]),
        transitions=trainer.settings.transitions,
        latent_shape=(1, 2, 2),
        seed=trainer.seed,
        step=trainer.step,
    ).latents


def assert_same_state(one: Trainer, two: Trainer) -> None:
    assert one.step == two.step
    assert torch.equal(weights(fake_model(one)), weights(fake_model(two)))
    averages = two.ema.state_dict()
    assert all(torch.equal(value, averages[n]) for n, value in one.ema.state_dict().items())
    state, other = one.optimizer.state_dict(), two.optimizer.state_dict()
    assert state["param_groups"] == other["param_groups"]
    assert state["state"].keys() == other["state"].keys()
    assert state["state"]
    for index, moments in state["state"].items():
        assert all(torch.equal(v, other["state"][index][name]) for name, v in moments.items())
    assert one.scheduler.state_dict() == two.scheduler.state_dict()
    assert torch.equal(next_samples(one), next_samples(two))


def toy(policy: Literal["none", "reinforce", "grpo"]) -> Toy:
    objective = Objective(policy=policy, condition_dropout=0.3, data_times="uniform")
    return Toy(objective=objective, num_updates=2, micro_batch=3)


def straight(settings: Toy, sink: FakeSink) -> Trainer:
    trainer = settings.trainer()
    assert train(trainer, NUM_STEPS, sinks=[sink])
    return trainer


@pytest.mark.parametrize("stop", [1, 3])
@pytest.mark.parametrize("policy", ["none", "reinforce", "grpo"])
def test_resume_is_the_straight_run(
    policy: Literal["none", "reinforce", "grpo"], stop: int, tmp_path: Path
) -> None:
    whole, first, second = FakeSink(), FakeSink(), FakeSink()
    expected = straight(toy(policy), whole)
    checkpoints = CheckpointFolder(tmp_path)

    interrupted = toy(policy).trainer()
    finished = train(
        interrupted,
        NUM_STEPS,
        sinks=[first],
        checkpoints=checkpoints,
        should_stop=lambda: interrupted.step == stop,
    )
    assert not finished
    assert interrupted.step == stop
    checkpoint = checkpoints.latest()
    assert checkpoint is not None
    assert checkpoint.step == stop

    resumed = toy(policy).trainer()
    restore(resumed, checkpoint)
    assert_same_state(resumed, interrupted)
    assert train(resumed, NUM_STEPS, sinks=[second], checkpoints=checkpoints)
    assert_same_state(resumed, expected)
    assert without_seconds(first.lines + second.lines) == without_seconds(whole.lines)


class KilledError(Exception):
    """Stands for kill -9 between two checkpoints."""


def test_a_kill_between_checkpoints_costs_those_iterations_alone(tmp_path: Path) -> None:
    """Step 3 was made and lost; made again from the checkpoint of step 2, it is the same."""
    expected = straight(toy("grpo"), FakeSink())

    def kill(step: int, metrics: object) -> None:
        if step == 3:
            raise KilledError

    with pytest.raises(KilledError):
        train(
            toy("grpo").trainer(),
            NUM_STEPS,
            checkpoints=CheckpointFolder(tmp_path),
            checkpoint_every=2,
            on_step=kill,
        )
    checkpoint = CheckpointFolder(tmp_path).latest()
    assert checkpoint is not None
    assert checkpoint.step == 2
    resumed = toy("grpo").trainer()
    restore(resumed, checkpoint)
    train(resumed, NUM_STEPS)
    assert_same_state(resumed, expected)


class Sampled(FakeReward):
    """A reward that draws from torch's global generator, as somebody's model may."""

    def score(self, media: Tensor, prompts: object) -> Tensor:
        return media.flatten(1).mean(1) + torch.rand(len(media))


def test_rewards_that_draw_from_the_global_generator_resume_too(tmp_path: Path) -> None:
    settings = Toy(reward=Sampled())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = settings.trainer()
        train(expected, 4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = settings.trainer()
        train(first, 2)
        checkpoint = save(first, CheckpointFolder(tmp_path))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        resumed = settings.trainer()
        restore(resumed, checkpoint)
        train(resumed, 4)
    assert torch.equal(weights(fake_model(resumed)), weights(fake_model(expected)))


@pytest.mark.parametrize(("every", "expected"), [(0, [4]), (2, [2, 4]), (3, [3, 4]), (100, [4])])
def test_checkpoints_come_when_due_and_at_the_end(
    every: int, expected: list[int], tmp_path: Path
) -> None:
    trainer = toy("none").trainer()
    folder = CheckpointFolder(tmp_path, keep=10)
    train(trainer, NUM_STEPS, checkpoints=folder, checkpoint_every=every, recipe="text")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{n:08d}" for n in expected]
    checkpoint = folder.latest()
    assert checkpoint is not None
    assert checkpoint.recipe == "text"


def test_every_step_is_told() -> None:
    trainer, sink = toy("grpo").trainer(), FakeSink()
    told = []
    train(trainer, 3, sinks=[sink], on_step=lambda step, metrics: told.append((step, metrics)))
    assert [step for step, _ in told] == [1, 2, 3]
    assert [line["step"] for line in sink.lines] == [1, 2, 3]
    assert [{"step": step, **metrics} for step, metrics in told] == sink.lines


def test_a_finished_run_does_nothing(tmp_path: Path) -> None:
    trainer = toy("none").trainer()
    train(trainer, 2)
    before = weights(fake_model(trainer))
    assert train(trainer, 2, checkpoints=CheckpointFolder(tmp_path / "none"))
    assert torch.equal(before, weights(fake_model(trainer)))
    assert not (tmp_path / "none").exists()


def test_the_iteration_at_fault_is_not_saved(tmp_path: Path) -> None:
    trainer = Toy(guard=Guard(max_drift=0.25)).trainer()
    trainer.monitors = [lambda: {"heldout_loss_change": 0.1 * trainer.step}]
    trainer.monitor_every = 1
    sink, folder = FakeSink(), CheckpointFolder(tmp_path)
    with pytest.raises(GuardStop):
        train(trainer, 5, sinks=[sink], checkpoints=folder, checkpoint_every=1)
    latest = folder.latest()
    assert latest is not None
    assert latest.step == 2
    assert [line["step"] for line in sink.lines] == [1, 2]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_not_saved(value: float, tmp_path: Path) -> None:
    """The last update explodes, which no rollout would see: the checkpoint before it is kept."""
    trainer, folder = toy("grpo").trainer(), CheckpointFolder(tmp_path)
    network = fake_model(trainer).transformer

    def explode(step: int, metrics: object) -> None:
        if step == NUM_STEPS:
            with torch.no_grad():
                next(iter(network.parameters()))[3, 1] = value

    with pytest.raises(GuardStop, match=f"0.weight is not finite after step {NUM_STEPS}"):
        train(trainer, NUM_STEPS, checkpoints=folder, checkpoint_every=3, on_step=explode)
    kept = folder.latest()
    assert kept is not None
    assert kept.step == 3
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    trainer = toy("none").trainer()
    checkpoint = save(trainer, CheckpointFolder(tmp_path))
    other = toy("none").trainer()
    with torch.random.fork_rng(devices=[]):
        wider = torch.nn.Sequential(torch.nn.Linear(9, 17), torch.nn.Linear(17, 4))
    fake_model(other).transformer = wider
    with pytest.raises(CheckpointError, match="another network"):
        restore(other, checkpoint)
    assert other.step == 0
