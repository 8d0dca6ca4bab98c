"""An iteration: what it calls, how often, and what makes it stop before it does harm."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from tests.counting import Counts
from tests.fakes import FakeCondition, FakeModel, FakeReward, FakeSink, Toy, fake_model, weights
from torch import Tensor

from ddrl.errors import GuardStop, ReplayMismatch, RewardError, WeightsError
from ddrl.evaluation.measures.generate import generate
from ddrl.models.decoding import decode_samples
from ddrl.objective.loss import Objective
from ddrl.records import Advantages, Condition, Prompts, Trajectory
from ddrl.training.forward import Forward
from ddrl.training.logs.metrics import spec_of
from ddrl.training.loop import train
from ddrl.training.safety.auditing import Audit
from ddrl.training.safety.budget import DriftBudget
from ddrl.training.safety.guard import Guard
from ddrl.training.trainer import Trainer

Regularizer = Literal["data", "reference", "none"]
N, ANCHORS = 8, 8  # of a Toy: 2 prompts of 4 members and 4 anchors each


def toys() -> list[Toy]:
    return [
        Toy(objective=Objective(policy="grpo", regularizer="data", condition_dropout=0.3)),
        Toy(objective=Objective(policy="reinforce", regularizer="none"), num_updates=2),
        Toy(objective=Objective(regularizer="reference", kl_in_return=True), guidance=2.0),
        Toy(objective=Objective(policy="none")),
    ]


TOYS = pytest.mark.parametrize("toy", toys(), ids=["ddrl", "reinforce", "reference", "sft"])


@TOYS
def test_an_iteration_learns_and_counts(toy: Toy) -> None:
    trainer = toy.trainer()
    before, average = weights(fake_model(trainer)), dict(trainer.learner.ema.state_dict())
    average = {name: value.clone() for name, value in average.items()}
    metrics = trainer.iteration()
    assert trainer.step == 1
    assert not torch.equal(before, weights(fake_model(trainer)))
    assert any(not torch.equal(average[n], v) for n, v in trainer.learner.ema.state_dict().items())
    assert all(math.isfinite(value) for value in metrics.values())
    assert trainer.learner.scheduler.last_epoch == toy.num_updates


@TOYS
def test_every_metric_is_in_the_glossary(toy: Toy) -> None:
    trainer = toy.trainer()
    trainer.watch.monitor = lambda step: Audit(
        step, {"heldout_loss": 1.0, "heldout_loss_change": 0.0}
    )
    metrics = {**trainer.iteration(), **trainer.audit().metrics}
    for name in metrics:
        assert spec_of(name).description
    expected = {"grad_norm", "learning_rate", "seconds", "seconds/update", "heldout_loss"}
    if toy.objective.policy != "none":
        expected |= {"reward", "reward_std", "reward/fake", "flat_groups", "ratio_max"}
        expected |= {"effective_beta", "latent_std", "policy_loss", "seconds/rollout"}
    if toy.objective.regularizer == "data":
        expected |= {"data_loss", "data_term"}
    if toy.objective.regularizer == "reference":
        expected |= {"reference_kl"}
    assert expected <= metrics.keys()
    assert ("data_loss" in metrics) == (toy.objective.regularizer == "data")


def test_training_raises_the_reward() -> None:
    toy = Toy(objective=Objective(regularizer="none"), num_prompts=3, group_size=16)
    trainer = toy.but(learning_rate=0.1).trainer()
    rewards = [trainer.iteration()["reward"] for _ in range(40)]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1


# --- calls of the model -------------------------------------------------------------------------


def rows(calls: list[tuple[int, bool]], *, recorded: bool) -> int:
    return sum(size for size, grad in calls if grad is recorded)


def second_iteration(toy: Toy) -> Trainer:
    """A trainer whose calls are those of its second iteration: the first one replays, too."""
    trainer = toy.trainer()
    trainer.iteration()
    fake_model(trainer).calls.clear()
    if trainer.learner.reference is not None:
        reference = trainer.learner.reference.model
        assert isinstance(reference, FakeModel)
        reference.calls.clear()
    trainer.iteration()
    return trainer


@pytest.mark.parametrize("micro_batch", [0, 3])
@pytest.mark.parametrize("steps_per_pass", [1, 2])
@pytest.mark.parametrize("trained", [None, (0, 2)])
def test_ddrl_calls_the_model_as_often_as_it_must(
    trained: tuple[int, ...] | None, steps_per_pass: int, micro_batch: int
) -> None:
    toy = Toy(trained=trained, steps_per_pass=steps_per_pass, micro_batch=micro_batch)
    trainer = second_iteration(toy)
    calls, k = fake_model(trainer).calls, len(toy.trained_steps)
    assert rows(calls, recorded=False) == N * toy.num_steps
    assert rows(calls, recorded=True) == k * (N + ANCHORS)
    assert trainer.learner.reference is None
    if micro_batch == 0:
        passes = -(-k // steps_per_pass)
        assert len(calls) == toy.num_steps + 2 * passes


def test_one_data_row_per_sample_is_one_pass() -> None:
    trainer = second_iteration(Toy(objective=Objective(data_per_step="one")))
    assert rows(fake_model(trainer).calls, recorded=True) == 4 * N + ANCHORS


def test_without_a_regularizer_there_is_no_other_pass() -> None:
    trainer = second_iteration(Toy(objective=Objective(regularizer="none")))
    assert rows(fake_model(trainer).calls, recorded=True) == 4 * N


def test_data_alone_does_not_sample() -> None:
    trainer = second_iteration(Toy(objective=Objective(policy="none")))
    assert rows(fake_model(trainer).calls, recorded=False) == 0
    assert rows(fake_model(trainer).calls, recorded=True) == 4 * ANCHORS


@pytest.mark.parametrize("kl_in_return", [False, True])
def test_the_reference_is_called_for_the_reference_term_alone(kl_in_return: bool) -> None:
    objective = Objective(regularizer="reference", kl_in_return=kl_in_return)
    trainer = second_iteration(Toy(objective=objective, trained=(0, 1, 2)))
    assert trainer.learner.reference is not None
    reference = trainer.learner.reference.model
    assert isinstance(reference, FakeModel)
    assert rows(reference.calls, recorded=True) == 0
    assert rows(reference.calls, recorded=False) == N * (3 + (4 if kl_in_return else 0))
    assert rows(fake_model(trainer).calls, recorded=True) == 3 * N


def test_the_first_iteration_replays_the_trained_steps_in_the_same_batches() -> None:
    """As the update does: with gradient, step by step."""
    trainer = Toy(trained=(0, 2), micro_batch=3).trainer()
    trainer.iteration()
    calls = fake_model(trainer).calls
    assert [size for size, grad in calls if not grad] == [3] * 4 + [3] * 4 + [2] * 4
    assert calls[12:18] == calls[18:24] == [(3, True), (3, True), (2, True)] * 2


def test_guidance_adds_unrecorded_passes_alone() -> None:
    trainer = second_iteration(Toy(guidance=2.0))
    calls = fake_model(trainer).calls
    assert rows(calls, recorded=True) == 4 * (N + ANCHORS)
    assert rows(calls, recorded=False) == 2 * 4 * N + 4 * N


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_nothing_is_encoded_twice(guidance: float) -> None:
    objective = Objective(condition_dropout=0.3)
    trainer = Toy(guidance=guidance, objective=objective).trainer()
    for _ in range(3):
        trainer.iteration()
    model = fake_model(trainer)
    assert model.media_encodings == 1  # of the whole data set, when the pool is built
    assert model.encoded == [("red", "green", "blue"), ("",)]


# --- kernels and host syncs ---------------------------------------------------------------------


def counted(toy: Toy, patch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Kernels outside the model and its backward pass, and host syncs, of one iteration."""
    trainer = toy.trainer()
    trainer.iteration()
    counts, model = Counts(), fake_model(trainer)
    with patch.context() as local:
        local.setattr(model, "predict", counts.leave_out(model.predict))
        local.setattr(torch.autograd, "backward", counts.leave_out(torch.autograd.backward))
        counts.count_calls(local)
        with counts:
            trainer.iteration()
    return sum(counts.kernels.values()), sum(counts.syncs.values())


REGULARIZERS: list[Regularizer] = ["data", "reference", "none"]


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("steps_per_pass", [1, 100])
def test_kernels_and_syncs_do_not_grow_with_samples_times_steps(
    regularizer: Regularizer, steps_per_pass: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples and steps may each cost a little (noise is drawn by sample); not their product."""
    found = {}
    for size in (4, 8):
        for steps in (4, 8):
            toy = Toy(
                objective=Objective(regularizer=regularizer, condition_dropout=0.2),
                group_size=size,
                anchors_per_group=size,
                num_steps=steps,
                steps_per_pass=steps_per_pass,
            )
            found[size, steps] = counted(toy, monkeypatch)
    for kind in range(2):
        with_many = found[8, 8][kind] - found[8, 4][kind]
        with_few = found[4, 8][kind] - found[4, 4][kind]
        assert with_many <= with_few
    # A host sync is no matter of samples or steps at all.
    assert len({syncs for _, syncs in found.values()}) == 1


def test_kernels_and_syncs_of_a_usual_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 samples and as many data, 10 steps, 9 of them trained: a bare loop needs 1150 and 60."""
    toy = Toy(objective=Objective(condition_dropout=0.1), num_steps=10, trained=tuple(range(9)))
    kernels, syncs = counted(toy, monkeypatch)
    assert kernels <= 1150
    assert syncs <= 60


# --- what stops it ------------------------------------------------------------------------------


def test_a_model_that_is_not_deterministic_is_refused() -> None:
    trainer = Toy(dropout=0.5).trainer()
    before = weights(fake_model(trainer))
    with torch.random.fork_rng(devices=[]), pytest.raises(ReplayMismatch) as caught:
        trainer.iteration()
    assert "at step " in caught.value.message
    assert "not deterministic" in caught.value.hint
    assert torch.equal(before, weights(fake_model(trainer)))
    assert trainer.step == 0


class OddAtOneStep(FakeModel):
    """Predicts something else at t = 1/4 whenever it is asked again."""

    asked = 0

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        velocity = super().predict(x_t, t, condition)
        if float(t[0]) == 0.25:
            self.asked += 1
            velocity = velocity * (1 + 0.5 * self.asked)
        return velocity


def test_the_replay_names_its_step_and_by_how_much_it_is_off() -> None:
    trainer = Toy().trainer(OddAtOneStep())
    with pytest.raises(
        ReplayMismatch, match=r"off by \d.* at step 3, above the tolerance of 0\.001"
    ):
        trainer.iteration()


class NaNModel(FakeModel):
    """Breaks in the pass that learns, not in the rollout."""

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        velocity = super().predict(x_t, t, condition)
        return velocity * torch.nan if torch.is_grad_enabled() else velocity


@pytest.mark.parametrize("policy", ["grpo", "reinforce", "none"])
def test_a_loss_that_is_not_finite_stops_before_the_step(
    policy: Literal["grpo", "reinforce", "none"],
) -> None:
    trainer = Toy(objective=Objective(policy=policy)).trainer(NaNModel())
    trainer.collector.inspector.replayed.add(trainer.sampler)  # before it broke
    model = fake_model(trainer)
    before = weights(model)
    average = {name: value.clone() for name, value in trainer.learner.ema.state_dict().items()}
    with pytest.raises(GuardStop, match=r"(loss|data_loss|grad_norm) is nan at step 1"):
        trainer.iteration()
    assert torch.equal(before, weights(model))
    assert not trainer.learner.optimizer.state
    assert all(torch.equal(average[n], v) for n, v in trainer.learner.ema.state_dict().items())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_stops_before_the_step(bad: float) -> None:
    trainer = Toy(reward=FakeReward(plant=torch.full((N,), bad), plant_at=1)).trainer()
    trainer.iteration()
    before = weights(fake_model(trainer))
    with pytest.raises(RewardError, match="'fake'"):
        trainer.iteration()
    assert torch.equal(before, weights(fake_model(trainer)))
    assert trainer.step == 1


class NaNDecoder(FakeModel):
    """Decodes one sample of each call to what is no number."""

    dtype = torch.float16

    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:
        pixels = super().decode(latents, condition).clone()
        pixels[1, :, 0, 0] = torch.nan
        return pixels


@pytest.mark.parametrize("micro_batch", [0, 4])
def test_the_decoder_is_blamed_before_any_reward_is_asked(micro_batch: int) -> None:
    reward = FakeReward()
    trainer = Toy(reward=reward, micro_batch=micro_batch).trainer(NaNDecoder())
    before = weights(fake_model(trainer))
    with pytest.raises(WeightsError, match=r"The decoder \(NaNDecoder, float16\)") as caught:
        trainer.iteration()
    assert "sample 2 of 8, of the prompt 'green'" in caught.value.message
    assert "float32" in caught.value.hint
    assert reward.calls == 0
    assert torch.equal(before, weights(fake_model(trainer)))


def test_a_decoder_is_blamed_by_an_evaluation_too() -> None:
    forward = Forward(NaNDecoder())
    with pytest.raises(WeightsError, match="a sample of the prompt 'green'"):
        generate(
            forward,
            ["red", "green"],
            samples_per_prompt=1,
            latent_shape=(1, 2, 2),
            seed=0,
            num_steps=2,
        )


def test_latents_that_are_no_numbers_are_not_the_decoders_fault() -> None:
    latents = torch.full((2, 1, 2, 2), math.nan)
    pixels = decode_samples(FakeModel(), latents, FakeCondition(torch.zeros(2)), name=str)
    assert pixels.isnan().all()


def test_an_exploding_gradient_stops_before_the_step() -> None:
    trainer = Toy(guard=Guard(max_grad_norm=1e-6)).trainer()
    before = weights(fake_model(trainer))
    with pytest.raises(GuardStop, match="grad_norm"):
        trainer.iteration()
    assert torch.equal(before, weights(fake_model(trainer)))


def test_a_ratio_that_runs_away_stops_before_the_step() -> None:
    """The first update moves the weights far; the second sees it and does not step."""
    toy = Toy(num_updates=2, learning_rate=0.5, guard=Guard(max_ratio=1.5, max_grad_norm=0))
    trainer = toy.trainer()
    with pytest.raises(GuardStop, match="ratio_max"):
        trainer.iteration()
    assert trainer.learner.scheduler.last_epoch == 1


def test_samples_that_explode_stop_the_run() -> None:
    with pytest.raises(GuardStop, match="latent_std"):
        train(Toy(guard=Guard(max_latent_std=0.01)).trainer(), 1)


def test_drift_stops_the_run() -> None:
    trainer = Toy(guard=Guard(max_drift=0.2)).trainer()
    trainer.watch.monitor = lambda step: Audit(step, {"heldout_loss_change": 0.1 * step})
    trainer.watch.every = 1
    with pytest.raises(GuardStop, match=r"heldout_loss_change is 0\.3 at step 3"):
        train(trainer, 9)
    assert trainer.step == 3


def has_averages(trainer: Trainer) -> bool:
    """Whether the network's weights are the averaged ones now, and these are not the raw ones."""
    averages = trainer.learner.ema.state_dict()
    network = dict(fake_model(trainer).transformer.named_parameters())
    return all(torch.equal(network[name], averages[name]) for name in averages)


def test_the_monitor_sees_the_averaged_weights_now_and_then() -> None:
    trainer, sink, seen = Toy().trainer(), FakeSink(), []

    def monitor(step: int) -> Audit:
        seen.append((step, trainer.step, has_averages(trainer)))
        return Audit(step, {"heldout_loss": 1.0})

    trainer.watch.monitor, trainer.watch.every = monitor, 2
    train(trainer, 4, sinks=[sink])
    assert seen == [(2, 2, True), (4, 4, True)]
    assert [line["step"] for line in sink.lines if "heldout_loss" in line] == [2, 4]
    assert not has_averages(trainer)


def test_the_budget_is_of_the_averaged_weights_drift() -> None:
    trainer, seen = Toy().trainer(), []

    def drift() -> float:
        seen.append(has_averages(trainer))
        return 0.06

    trainer.watch.budget = DriftBudget(drift, 0.03, 1.0, every=2)
    rows = [trainer.iteration() for _ in range(3)]
    assert seen == [True]
    assert not has_averages(trainer)
    assert ["budget_drift" in row for row in rows] == [False, True, False]
    # The corrected beta is the next iteration's.
    unchanged = Toy().trainer()
    expected = [unchanged.iteration() for _ in range(3)]
    assert rows[1]["data_term"] == expected[1]["data_term"]
    factor = rows[1]["beta"]
    assert factor == pytest.approx(math.exp(0.15), rel=1e-6)
    assert rows[2]["data_term"] == pytest.approx(factor * expected[2]["data_term"], rel=1e-5)


class Draws(FakeReward):
    """Draws from torch's global generator, then fails in one call."""

    def __init__(self, *, fails_at: int = 0) -> None:
        super().__init__()
        self.fails_at, self.drawn = fails_at, list[float]()

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        self.drawn.append(float(torch.rand(())))
        if len(self.drawn) == self.fails_at:
            raise RewardError("out of order")
        return super().score(media, prompts)


def test_an_iteration_that_failed_leaves_the_global_generator_as_it_was() -> None:
    reward = Draws(fails_at=2)
    trainer = Toy(reward=reward).trainer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trainer.iteration()
        with pytest.raises(RewardError, match="out of order"):
            trainer.iteration()
        trainer.iteration()
    assert reward.drawn[1] == reward.drawn[2] != reward.drawn[0]


def test_a_dropped_sample_is_left_out_of_the_update() -> None:
    """A reward that fails for one sample: the run goes on, and says what share failed."""
    values = torch.linspace(0, 1, N)
    values[2] = math.nan
    trainer = Toy(reward=FakeReward(plant=values), on_failure="drop_sample").trainer()
    metrics = trainer.iteration()
    assert metrics["reward_failed"] == pytest.approx(1 / N)
    kept = values[torch.arange(N) != 2]
    assert metrics["reward"] == pytest.approx(float(kept.mean()))


def test_the_anchor_has_the_prompts_captions() -> None:
    trainer = Toy(num_prompts=3, anchors_per_group=2).trainer()
    hand = trainer.dealer.deal(0)
    captions = trainer.collector.pool.caption_id[hand.anchor_row]
    assert captions.tolist() == hand.prompt_id.repeat_interleave(2).tolist()
    anchor = trainer.collector.pool.anchor(hand.anchor_row, device="cpu")
    assert torch.equal(anchor.x0, trainer.collector.pool.x0[hand.anchor_row])
    rows = anchor.condition[:]
    assert isinstance(rows, FakeCondition)
    assert rows.label.tolist() == (captions + 1).tolist()


def test_the_kl_to_come_is_charged_in_every_update_of_a_rollout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one member of a group per update, a baseline of the update's own would charge 0."""
    objective = Objective(regularizer="reference", kl_in_return=True)
    trainer = Toy(objective=objective, num_updates=4).trainer()
    policy = trainer.learner.gradients[0].policy
    charged: list[Tensor] = []

    def spy(
        trajectory: Trajectory,
        advantages: Advantages,
        *,
        correction: Tensor | None = None,
        is_first: bool,
    ) -> dict[str, Tensor]:
        assert correction is not None
        assert is_first == (not charged)
        charged.append(correction)
        return policy(trajectory, advantages, correction=correction, is_first=is_first)

    monkeypatch.setattr(trainer.learner.gradients[0], "policy", spy)
    trainer.iteration()
    assert len(charged) == 4
    assert all(float(correction[:, :-1].abs().min()) > 0 for correction in charged)
    # Over the whole groups they are deviations from a mean.
    total = torch.stack(charged).sum((0, 1))
    torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-4, rtol=0)


# --- weights that have exploded -----------------------------------------------------------------


class ExplodedModel(FakeModel):
    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return super().predict(x_t, t, condition) * torch.inf


@pytest.mark.parametrize("is_resumed", [True, False])
def test_an_exploded_policy_is_not_blamed_on_others(is_resumed: bool) -> None:
    """Its samples are not finite, so replay and reward fail: neither is the cause."""
    toy = Toy(reward=FakeReward(plant=torch.full((N,), math.nan)))
    trainer = toy.trainer(ExplodedModel())
    trainer.collector.inspector.replayed = set() if is_resumed else {trainer.sampler}
    with pytest.raises(GuardStop, match="latent_std is nan at step 1") as caught:
        trainer.iteration()
    assert not isinstance(caught.value, ReplayMismatch)
