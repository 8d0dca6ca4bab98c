"""Rewards beside the rollout: an iteration takes as long as the slower of the two."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest
import torch
from tests.fakes import FakeModel, FakeReward, Toy
from torch import Tensor

from ddrl.errors import GuardStop, RewardError
from ddrl.records import Condition, Prompts
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.training.collect import Collected
from ddrl.training.logs.clock import Clock
from ddrl.training.trainer import Trainer

TOY = Toy(group_size=16, micro_batch=3)  # 32 samples in 11 micro-batches
PASS = 0.02  # seconds that a forward pass takes


class Slow(FakeReward):
    """Takes a time per sample, and notes how long it took in all."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds, self.busy = seconds, 0.0

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        start = time.perf_counter()
        time.sleep(self._seconds * len(media))
        value = super().score(media, prompts)
        self.busy += time.perf_counter() - start
        return value


class SlowModel(FakeModel):
    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        time.sleep(PASS)
        return super().predict(x_t, t, condition)


def collect(
    toy: Toy,
    *rewards: WeightedReward,
    slow: bool = False,
    overlap: bool = True,
    clock: Clock | None = None,
) -> Collected:
    trainer = toy.but(overlap=overlap).trainer(SlowModel() if slow else None)
    collector = trainer.collector
    if rewards:
        collector.scorer = Scorer(rewards)
    collector.inspector.replayed.update(collector.samplers)
    return collector.collect(trainer.dealer.deal(0), step=0, clock=clock or Clock())


def share(*, overlap: bool) -> float:
    """Time of rollout and reward in parts of the slower one, where both are as slow."""
    reward, clock = Slow(11 * 4 * PASS / 32), Clock()
    collect(TOY, WeightedReward("slow", reward), slow=True, overlap=overlap, clock=clock)
    assert reward.calls == (11 if overlap else 1)
    slower = max(clock.seconds["rollout"], reward.busy)
    return (clock.seconds["rollout"] + clock.seconds["reward"]) / slower


def test_a_reward_as_slow_as_the_rollout_costs_no_more_than_a_sixth() -> None:
    """The best of three: a busy machine adds to all of them."""
    assert min(share(overlap=True) for _ in range(3)) <= 1.15
    assert share(overlap=False) >= 1.5


@pytest.mark.parametrize("micro_batch", [3, 5, 32, 0])
def test_the_same_comes_out_bitwise(micro_batch: int) -> None:
    toy = TOY.but(micro_batch=micro_batch)
    beside, after = collect(toy), collect(toy, overlap=False)
    assert torch.equal(beside.trajectory.latents, after.trajectory.latents)
    for field in dataclasses.fields(beside.scores):
        mine, other = getattr(beside.scores, field.name), getattr(after.scores, field.name)
        assert torch.equal(mine, other) if isinstance(mine, Tensor) else mine == other


def test_one_micro_batch_stays_in_this_thread() -> None:
    class Where(FakeReward):
        threads: set[threading.Thread]

        def score(self, media: Tensor, prompts: Prompts) -> Tensor:
            self.threads = {threading.current_thread()}
            return super().score(media, prompts)

    for micro_batch, here in ((0, True), (32, True), (16, False)):
        reward = Where()
        collect(TOY.but(micro_batch=micro_batch, reward=reward))
        assert (threading.current_thread() in reward.threads) is here


class Explodes(FakeModel):
    """Its third micro-batch is not finite."""

    passes = 0

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.passes += 1
        velocity = super().predict(x_t, t, condition)
        return velocity * torch.inf if self.passes == 9 else velocity


class Bears(FakeReward):
    """Refuses what is not finite."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        if not media.isfinite().all():
            raise ValueError("not a picture")
        return super().score(media, prompts)


class Refuses(FakeReward):
    """Anything."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        raise ValueError("not a picture")


def trainer_of(model: FakeModel, reward: FakeReward) -> Trainer:
    trainer = TOY.but(reward=reward).trainer(model)
    trainer.collector.inspector.replayed.add(trainer.sampler)
    return trainer


def test_samples_that_exploded_in_the_midst_are_blamed_on_the_policy() -> None:
    with pytest.raises(GuardStop, match="latent_std is nan at step 1"):
        trainer_of(Explodes(), Bears()).iteration()
    with pytest.raises(RewardError, match=r"from sample 0 .*not a picture"):
        trainer_of(FakeModel(), Refuses()).iteration()


class Interrupts(FakeModel):
    """Ctrl-C in the third micro-batch."""

    passes = 0

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.passes += 1
        if self.passes == 9:
            raise KeyboardInterrupt
        return super().predict(x_t, t, condition)


def test_an_interrupted_rollout_does_not_wait_for_a_reward_that_hangs() -> None:
    release = threading.Event()

    class Hangs(FakeReward):
        def score(self, media: Tensor, prompts: Prompts) -> Tensor:
            release.wait()
            return super().score(media, prompts)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(Interrupts(), Hangs()).iteration()
    assert time.monotonic() - start < 5
    release.set()


def test_iterations_with_and_without_micro_batches_train_alike() -> None:
    """As far as sums of gradients do: the rewards of both are those of the same samples."""
    toy = Toy(group_size=6)
    one, few = toy.trainer(), toy.but(micro_batch=2).trainer()
    for _ in range(3):
        first, second = one.iteration(), few.iteration()
        assert first["reward"] == pytest.approx(second["reward"], rel=1e-4)
