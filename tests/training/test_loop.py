"""Stopping at any step and resuming is the straight run, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from tests.fakes import FakeReward, FakeSink, Toy, fake_model, weights
from torch import Tensor

from ddrl.errors import CheckpointError, GuardStop, RewardError
from ddrl.objective.loss import Objective
from ddrl.training.checkpoint import Best, CheckpointFolder
from ddrl.training.loop import restore, save, train
from ddrl.training.manifest import read_manifest
from ddrl.training.safety.auditing import Audit, AuditRecord, Monitor
from ddrl.training.safety.budget import DriftBudget
from ddrl.training.safety.guard import Guard
from ddrl.training.trainer import Trainer

NUM_STEPS = 4
Line = dict[str, float]


def without_seconds(lines: list[Line]) -> list[Line]:
    return [{k: v for k, v in line.items() if not k.startswith("seconds")} for line in lines]


def next_samples(trainer: Trainer) -> Tensor:
    condition = trainer.collector.pool.condition[torch.arange(3)]
    return trainer.sampler.rollout(condition, torch.tensor([0, 1, 2]), step=trainer.step).latents


def assert_same_state(one: Trainer, two: Trainer) -> None:
    assert one.step == two.step
    assert torch.equal(weights(fake_model(one)), weights(fake_model(two)))
    averages = two.learner.ema.state_dict()
    assert all(torch.equal(value, averages[n]) for n, value in one.learner.ema.state_dict().items())
    state, other = one.learner.optimizer.state_dict(), two.learner.optimizer.state_dict()
    assert state["param_groups"] == other["param_groups"]
    assert state["state"].keys() == other["state"].keys()
    assert state["state"]
    for index, moments in state["state"].items():
        assert all(torch.equal(v, other["state"][index][name]) for name, v in moments.items())
    assert one.learner.scheduler.state_dict() == two.learner.scheduler.state_dict()
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
    assert (
        resumed.learner.ema.num_updates == interrupted.learner.ema.num_updates >= stop
    )  # its warm-up goes on
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
    trainer.watch.monitor = lambda step: Audit(step, {"heldout_loss_change": 0.1 * step})
    trainer.watch.every = 1
    sink, folder = FakeSink(), CheckpointFolder(tmp_path)
    with pytest.raises(GuardStop):
        train(trainer, 5, sinks=[sink], checkpoints=folder, checkpoint_every=1)
    latest = folder.latest()
    assert latest is not None
    assert latest.step == 2
    # Its rows are recorded all the same: they say why.
    assert [line["step"] for line in sink.lines] == [1, 1, 2, 2, 3, 3]
    assert sink.lines[-1]["heldout_loss_change"] == pytest.approx(0.3)


def test_an_iteration_that_the_guard_refuses_has_its_row(tmp_path: Path) -> None:
    trainer, sink = Toy(guard=Guard(max_latent_std=0.01)).trainer(), FakeSink()
    with pytest.raises(GuardStop, match=r"latent_std is .* at step 1, above"):
        train(trainer, 5, sinks=[sink], checkpoints=CheckpointFolder(tmp_path), checkpoint_every=1)
    assert [line["step"] for line in sink.lines] == [1]
    assert sink.lines[0]["latent_std"] > 0.01
    assert CheckpointFolder(tmp_path).latest() is None


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


# --- beta of a drift budget, notes --------------------------------------------------------------


def with_budget(drift: float = 0.06) -> Trainer:
    trainer = toy("grpo").trainer()
    trainer.watch.budget = DriftBudget(lambda: drift, 0.03, trainer.learner.objective.beta, every=2)
    return trainer


def test_a_resumed_run_takes_the_beta_that_its_budget_had(tmp_path: Path) -> None:
    whole, first, second = FakeSink(), FakeSink(), FakeSink()
    train(with_budget(), 5, sinks=[whole])
    begun, resumed = with_budget(), with_budget()
    train(begun, 3, sinks=[first])
    assert begun.learner.gradients[0].beta != begun.learner.objective.beta
    restore(resumed, save(begun, CheckpointFolder(tmp_path)))
    assert resumed.learner.gradients[0].beta == begun.learner.gradients[0].beta
    train(resumed, 5, sinks=[second])
    assert without_seconds(first.lines + second.lines) == without_seconds(whole.lines)


def test_notes_are_in_every_checkpoint(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    trainer = toy("none").trainer()
    train(trainer, 4, checkpoints=folder, checkpoint_every=2, notes={"base": "abc"})
    for step in (2, 4):
        checkpoint = read_manifest(folder.path(step))
        assert checkpoint.notes["base"] == "abc"
        assert AuditRecord.of(checkpoint) == AuditRecord()


# --- audits, while training waits ---------------------------------------------------------------

SCORES = {2: 0.5, 4: 2.0, 6: 1.0}


def audit(step: int, *, hacked: bool = False) -> Audit:
    metrics = {"heldout_loss_change": 0.0, "audit/hacked": float(hacked)}
    if not hacked:
        metrics["audit/score"] = SCORES.get(step, 0.0)
    return Audit(step, metrics, "hacked: look at it." if hacked else "clean.")


def audited(monitor: Monitor, *, guard: Guard | None = None) -> Trainer:
    trainer = Toy(guard=guard or Guard()).trainer()
    trainer.watch.monitor, trainer.watch.every = monitor, 2
    return trainer


class Fails:
    """Audits, and raises once at a step, after it drew from the global generator."""

    def __init__(self, at: int) -> None:
        self.at, self.failed, self.steps = at, False, list[int]()

    def __call__(self, step: int) -> Audit:
        torch.rand(())
        if step == self.at and not self.failed:
            self.failed = True
            raise RewardError("the reward's server is down")
        self.steps.append(step)
        return audit(step)


def rows(sink: FakeSink) -> list[Line]:
    return sorted(without_seconds(sink.lines), key=lambda line: (line["step"], len(line) < 5))


@pytest.mark.parametrize("at", [2, 4, 6])
def test_an_audit_that_failed_is_made_before_training_goes_on(at: int, tmp_path: Path) -> None:
    """With a reward that draws from the global generator: the audit must not have moved it."""
    settings = Toy(reward=Sampled())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole, expected = FakeSink(), settings.trainer()
        expected.watch.monitor, expected.watch.every = Fails(99), 2
        train(expected, 6, sinks=[whole])
    folder, sink, monitor = CheckpointFolder(tmp_path), FakeSink(), Fails(at)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, resumed = settings.trainer(), settings.trainer()
        first.watch.monitor = resumed.watch.monitor = monitor
        first.watch.every = resumed.watch.every = 2
        with pytest.raises(RewardError, match="server is down"):
            train(first, 6, sinks=[sink], checkpoints=folder)
        checkpoint = folder.latest()
        assert checkpoint is not None
        assert checkpoint.step == at
        assert sink.lines[-1]["step"] == at  # its row is there
        torch.manual_seed(99)
        restore(resumed, checkpoint)
        assert train(resumed, 6, sinks=[sink], checkpoints=folder)
    assert monitor.steps == [2, 4, 6]
    assert rows(sink) == rows(whole)
    assert torch.equal(weights(fake_model(resumed)), weights(fake_model(expected)))
    newest = folder.latest()
    assert newest is not None
    assert AuditRecord.of(newest) == expected.watch.audits
    assert folder.best() == Best(4, 2.0)


def test_a_resumed_run_remembers_hacked_audits(tmp_path: Path) -> None:
    """One before the stop and one after it are two in a row, and one before it is not."""
    folder, guard = CheckpointFolder(tmp_path), Guard(stop_hacked=2)
    said = {2: False, 4: True, 6: False, 8: True, 10: True}

    def monitor(step: int) -> Audit:
        return audit(step, hacked=said[step])

    train(audited(monitor, guard=guard), 8, checkpoints=folder, checkpoint_every=1)
    newest = folder.latest()
    assert newest is not None
    resumed = audited(monitor, guard=guard)
    restore(resumed, newest)
    assert resumed.watch.audits.hacked == 1
    with pytest.raises(GuardStop, match="at 2 audits in a row: hacked: look at it") as caught:
        train(resumed, 20, checkpoints=folder)
    assert resumed.step == 10
    assert "see --step best" in caught.value.hint
    # The record is that of the checkpoint which is used: damage to the newest one takes it back.
    (folder.path(8) / "state.pt").unlink()
    before = folder.latest()
    assert before is not None
    assert before.step == 7
    assert AuditRecord.of(before).hacked == 0
