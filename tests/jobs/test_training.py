"""A recipe becomes a trainer that does what the recipe says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from ddrl.builders.assets import Assets
from ddrl.builders.device import pick_device
from ddrl.builders.sampler import build_transitions
from ddrl.builders.scorers import build_scorer
from ddrl.builders.tasks import embedded
from ddrl.builders.tasks.table import task_of
from ddrl.data.embedded.digits import digit_splits
from ddrl.diffusion.process import RectifiedFlow
from ddrl.diffusion.schedule import time_grid
from ddrl.errors import RewardError, UsageError
from ddrl.jobs.train.trainer import Job, build_job
from ddrl.models.tiny.model import TinyModel
from ddrl.objective.advantage import log_partition
from ddrl.recipe import Recipe, parse_recipe
from ddrl.rewards.builtin.embedded.classifier import fit_classifier
from ddrl.training.logs.metrics import spec_of

CPU = torch.device("cpu")
SMALL = """
[model]
width = 16
depth = 1
[model.pretrain]
steps = 20
batch_size = 16
[[reward]]
name = "ink"
[rollout]
prompts_per_step = 3
group_size = 4
steps = 4
[run]
steps = 8
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def recipe(cache: Path, *overrides: str) -> Recipe:
    where = [f"run.cache={cache}", f"run.folder={cache / 'run'}", "run.device=cpu"]
    return parse_recipe(SMALL, overrides=[*where, *overrides])


def job(cache: Path, *overrides: str) -> Job:
    return build_job(recipe(cache, *overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["objective.policy=none"],
        ["objective.regularizer=reference", "objective.kl_in_return=true"],
        ["objective.regularizer=none", "objective.policy=reinforce"],
        ["objective.advantage=tilt", "objective.updates_per_rollout=2"],
        ["objective.advantage=global", "rollout.guidance=2.0", "run.micro_batch=5"],
        ["objective.advantage=center", "rollout.kernel=ddim", "data.anchor=independent"],
        ["model.network=dit", "model.heads=2", "rollout.storage_dtype=bfloat16"],
        ["run.precision=bfloat16", "guard.replay_tolerance=0"],
    ],
    ids=lambda overrides: "-".join(o.split(".")[1] for o in overrides) or "default",
)
def test_every_method_runs_and_logs_what_the_glossary_knows(
    overrides: list[str], cache: Path
) -> None:
    trainer = job(cache, *overrides, "evaluation.every=1").trainer
    metrics = {**trainer.iteration(), **trainer.audit().metrics}
    assert trainer.step == 1
    for name, value in metrics.items():
        assert spec_of(name).unit
        assert math.isfinite(value)
    assert "heldout_loss_change" in metrics


def test_equal_recipes_give_equal_runs(cache: Path, tmp_path: Path) -> None:
    """Also where the base model is made anew instead of found."""
    runs = [job(cache).trainer, job(cache).trainer, job(tmp_path).trainer]
    lines = [[trainer.iteration() for _ in range(2)] for trainer in runs]
    kept = [[{k: v for k, v in m.items() if "seconds" not in k} for m in line] for line in lines]
    assert kept[0] == kept[1] == kept[2]
    other = job(cache, "run.seed=1").trainer.iteration()
    assert other["reward"] != kept[0][0]["reward"]


def test_geometry_and_settings_are_the_recipes(cache: Path) -> None:
    trainer = job(
        cache,
        "run.micro_batch=5",
        "run.steps_per_pass=2",
        "rollout.trained_steps=[0,2]",
        "objective.updates_per_rollout=2",
        "data.anchors_per_group=2",
        "rollout.guidance=1.5",
        "optimizer.grad_clip=0.25",
        "guard.max_ratio=7.0",
    ).trainer
    sampler, fold = trainer.sampler, trainer.learner.gradients[0].steps_per_pass
    assert (sampler.micro_batch, fold, trainer.num_updates) == (5, 2, 2)
    assert sampler.trained == (0, 2)
    assert (trainer.collector.group_size, sampler.latent_shape) == (4, (1, 8, 8))
    assert trainer.forward.guidance == 1.5
    assert trainer.learner.grad_clip == 0.25
    assert trainer.watch.guard.max_ratio == 7.0
    hand = trainer.dealer.deal(0)
    assert (len(hand.prompt_id), len(hand.anchor_row)) == (3, 6)
    assert job(cache).trainer.dealer.deal(0).anchor_row.shape == (12,)


def test_the_anchor_is_the_training_data_and_never_the_held_out(cache: Path) -> None:
    pool = job(cache).trainer.collector.pool
    train = digit_splits().train
    assert torch.equal(pool.x0[:], 2 * train.media[:, :1] - 1)
    assert torch.equal(pool.caption_id, train.caption_id)
    assert pool.prompts.text == train.captions


def test_the_reference_is_the_base_and_frozen(cache: Path) -> None:
    trainer = job(cache, "objective.regularizer=reference").trainer
    assert trainer.learner.reference is not None
    frozen = trainer.learner.reference.model.transformer
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert all(p.requires_grad for p in trainer.forward.model.transformer.parameters())
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    policy = trainer.forward.model.transformer.state_dict()
    assert all(torch.equal(value, policy[name]) for name, value in before.items())
    trainer.iteration()
    assert all(torch.equal(value, before[n]) for n, value in frozen.state_dict().items())
    assert any(not torch.equal(value, before[n]) for n, value in policy.items())
    assert job(cache).trainer.learner.reference is None


def test_drift_is_0_before_training(cache: Path) -> None:
    trainer = job(cache, "evaluation.every=5").trainer
    assert trainer.watch.every == 5
    metrics = trainer.audit().metrics
    assert metrics["heldout_loss_change"] == pytest.approx(0, abs=1e-6)
    assert metrics["heldout_loss"] > 0
    assert job(cache, "evaluation.every=0").trainer.watch.monitor is None


@pytest.mark.parametrize(
    ("overrides", "factors"),
    [
        ([], [1.0] * 8),
        (["optimizer.warmup_steps=3"], [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]),
        (
            ["optimizer.schedule=cosine"],
            [0.5 * (1 + math.cos(math.pi * update / 8)) for update in range(8)],
        ),
    ],
    ids=["constant", "warm-up", "cosine"],
)
def test_the_learning_rate(overrides: list[str], factors: list[float], cache: Path) -> None:
    trainer = job(cache, *overrides, "optimizer.learning_rate=0.01").trainer
    found = [trainer.iteration()["learning_rate"] for _ in range(8)]
    assert found == pytest.approx([0.01 * factor for factor in factors])


def test_deterministic_steps_follow_the_ode(cache: Path) -> None:
    section = recipe(cache, "rollout.stochastic_steps=[1,2]").rollout
    transitions = build_transitions(section, RectifiedFlow())
    assert transitions.stochastic.tolist() == [False, True, True, False]
    assert transitions.a[[0, 3]].tolist() == [1, 1]
    trainer = job(cache, "rollout.stochastic_steps=[1,2]").trainer
    assert trainer.sampler.trained == (1, 2)


def test_times_are_shifted_as_the_model_has_it_unless_the_recipe_says_otherwise(
    cache: Path,
) -> None:
    section, flow = recipe(cache).rollout, RectifiedFlow()
    own = build_transitions(section, flow, own_shift=3.0)
    assert torch.equal(own.times, time_grid(section.steps, shift=3.0))
    set_by_hand = recipe(cache, "rollout.time_shift=2.0").rollout
    asked = build_transitions(set_by_hand, flow, own_shift=3.0)
    assert torch.equal(asked.times, time_grid(section.steps, shift=2.0))


def test_tilt_uses_the_partition_of_the_data(cache: Path) -> None:
    """Two prompts with the same rewards have other advantages, by their own data's Z."""
    trainer = job(cache, "objective.advantage=tilt", "objective.beta=0.5").trainer
    train = digit_splits().train
    rewards = torch.tensor([0.1, 0.3, 0.1, 0.3])
    group, keep = torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.bool)
    prompts = torch.tensor([7, 1])
    found = trainer.advantage(rewards, group, keep, prompts).value
    for g, prompt in enumerate(prompts.tolist()):
        ink = train.media[train.caption_id == prompt].flatten(1).mean(1)
        z = [(r - log_partition(ink, beta=0.5)) / 0.5 for r in (0.1, 0.3)]
        low, high = (-math.exp(-value) for value in z)
        expected = [0.5 * (low - high), 0.5 * (high - low)]
        assert found[2 * g : 2 * g + 2].tolist() == pytest.approx(expected, rel=1e-4)
    assert not torch.allclose(found[:2], found[2:])


@pytest.mark.parametrize(("clip", "largest"), [("0.5", 0.5), ("0", 1.6)])
def test_advantages_are_clipped(clip: str, largest: float, cache: Path) -> None:
    trainer = job(cache, f"objective.advantage_clip={clip}").trainer
    rewards = torch.tensor([0.0, 0.0, 0.0, 1.0])
    keep = torch.ones(4, dtype=torch.bool)
    found = trainer.advantage(rewards, torch.zeros(4, dtype=torch.int64), keep, torch.tensor([0]))
    assert float(found.value.max()) == pytest.approx(min(largest, math.sqrt(3)), rel=0.1)
    assert bool(found.clipped.any()) == (clip == "0.5")


@pytest.mark.parametrize(("micro_batch", "most"), [(5, 5), (0, 12)])
def test_data_for_the_tilt_are_decoded_as_many_at_once_as_samples(
    cache: Path, monkeypatch: pytest.MonkeyPatch, micro_batch: int, most: int
) -> None:
    decode, sizes = TinyModel.decode, list[int]()

    def counted(self: TinyModel, latents: torch.Tensor, condition: object = None) -> torch.Tensor:
        sizes.append(len(latents))
        return decode(self, latents)

    monkeypatch.setattr(TinyModel, "decode", counted)
    trainer = job(cache, "objective.advantage=tilt", f"run.micro_batch={micro_batch}").trainer
    assert max(sizes) == most
    assert sum(sizes) == len(trainer.collector.pool.caption_id)


def test_the_judge_is_built_otherwise_and_elsewhere(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fit(media: torch.Tensor, label: torch.Tensor, **options: object) -> torch.nn.Module:
        asked.append((len(media), float(media.sum()), options["architecture"]))
        return fit_classifier(media, label, **{**options, "num_steps": 1})  # type: ignore[arg-type]

    monkeypatch.setattr(embedded, "fit_classifier", fit)
    splits = digit_splits()
    task = task_of(recipe(cache, "reward.0.name=classifier"))
    build_scorer(task)
    task.jury()
    assert asked == [
        (600, float(splits.reward.media.sum()), "mlp"),
        (600, float(splits.judge.media.sum()), "conv"),
    ]
    build_scorer(task)
    task.jury()
    assert len(asked) == 2  # found, the second time


def test_the_base_is_made_once(cache: Path, tmp_path: Path) -> None:
    told = []

    def progress(what: str, done: int, total: int, note: str) -> None:
        told.append((what, done, total))

    for _ in range(2):
        Assets.build(recipe(tmp_path), CPU, progress=progress)
    assert told == [("base", 20, 20)]
    other = Assets.build(recipe(tmp_path, "model.pretrain.steps=0"), CPU).model
    assert isinstance(other, TinyModel)
    fresh = TinyModel(other.config, seed=0).transformer.state_dict()
    assert all(torch.equal(v, fresh[n]) for n, v in other.transformer.state_dict().items())


@pytest.mark.parametrize(
    ("override", "error", "phrase"),
    [
        (
            "data.source=faces",
            UsageError,
            "must be one of .digits., .moving_digits., .words., .files.",
        ),
        ("model.family=sd9", UsageError, "must be one of .tiny., .diffusers."),
        ("reward.0.name=inc", RewardError, "no reward named 'inc'"),
    ],
)
def test_what_is_not_there(override: str, error: type[Exception], phrase: str, cache: Path) -> None:
    with pytest.raises(error, match=phrase) as caught:
        job(cache, override)
    assert getattr(caught.value, "hint", "")


def test_a_reward_twice_is_refused(cache: Path) -> None:
    text = SMALL + '\n[[reward]]\nname = "ink"\n'
    with pytest.raises(UsageError, match="Reward ink is in the recipe twice") as caught:
        parse_recipe(text)
    assert 'label = "ink-2"' in caught.value.hint
    labelled = parse_recipe(text + 'label = "ink-2"\noptions = { scale = 2.0 }\n')
    scorer = build_scorer(task_of(labelled))
    assert scorer.names == ("ink", "ink-2")


def test_cuda_where_there_is_none(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device"):
        pick_device(recipe(cache, "run.device=cuda"))
    assert pick_device(recipe(cache, "run.device=auto")) == torch.device("cpu")
