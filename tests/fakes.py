"""A small stand-in for each seam of the trainer, and a trainer made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ddrl.data.groups import Dealer
from ddrl.diffusion.kernels import make_kernel
from ddrl.diffusion.process import RectifiedFlow
from ddrl.diffusion.schedule import select_steps, time_grid
from ddrl.diffusion.transition import Transitions
from ddrl.models.base import DiffusionModel
from ddrl.models.ema import EMA
from ddrl.objective.advantage import group_advantage
from ddrl.objective.loss import Objective
from ddrl.records import Advantages, Condition, Prompts
from ddrl.rewards.base import Reward
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.scorer import FailurePolicy, Scorer
from ddrl.training.collect import Collector
from ddrl.training.forward import Forward
from ddrl.training.learner import Learner
from ddrl.training.logs.shown import Shown
from ddrl.training.pool import Pool
from ddrl.training.rollout import Sampler
from ddrl.training.safety.guard import Guard
from ddrl.training.safety.inspector import Inspector
from ddrl.training.safety.watch import Watch
from ddrl.training.trainer import Trainer
from ddrl.training.update import Gradient

PROMPTS = ("red", "green", "blue")


@dataclass(frozen=True)
class FakeCondition(Condition):
    """The prompt's number per row, 0 for the empty text."""

    label: Tensor


class FakeModel:
    """A :class:`~ddrl.models.base.DiffusionModel` of 1x2x2 pixels: one hidden layer."""

    process = RectifiedFlow()

    def __init__(self, *, seed: int = 0, dropout: float = 0.0) -> None:
        self.calls: list[tuple[int, bool]] = []  # rows, and whether autograd was recording
        self.encoded: list[tuple[str, ...]] = []
        self.media_encodings = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = [nn.Linear(4 + 1 + 4, 16), nn.SiLU(), nn.Dropout(dropout), nn.Linear(16, 4)]
            self.transformer: nn.Module = nn.Sequential(*layers)

    def encode(self, texts: Sequence[str]) -> FakeCondition:
        self.encoded.append(tuple(texts))
        return FakeCondition(torch.tensor([("", *PROMPTS).index(text) for text in texts]))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        assert isinstance(condition, FakeCondition)
        self.calls.append((len(x_t), torch.is_grad_enabled()))
        label = torch.eye(4, dtype=x_t.dtype)[condition.label]
        rows = torch.cat([x_t.flatten(1), t[:, None].to(x_t.dtype), label], dim=1)
        out: Tensor = self.transformer(rows)
        return out.reshape(x_t.shape)

    def encode_media(self, media: Tensor) -> Tensor:
        self.media_encodings += 1
        return 2 * media.mean(1, keepdim=True) - 1

    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:
        return ((latents + 1) / 2).clamp(0, 1).expand(-1, 3, -1, -1)

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        return (1, height, width)

    def time_shift(self, latent_shape: Sequence[int], num_steps: int | None = None) -> float:
        return 1.0


class FakeReward:
    """Brightness, which differs between prompts; from ``plant_at`` on, a call returns ``plant``."""

    def __init__(self, *, plant: Tensor | None = None, plant_at: int = 0) -> None:
        self.calls = 0
        self._plant, self._plant_at = plant, plant_at

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        self.calls += 1
        if self._plant is not None and self.calls > self._plant_at:
            return self._plant
        sign = torch.tensor([1.0 if text == "red" else -1.0 for text in prompts.text])
        return sign * media.flatten(1).mean(1)


class FakeSink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []
        self.shown: list[tuple[int, Shown | None, str]] = []

    def write(self, metrics: Mapping[str, float], *, step: int) -> None:
        self.lines.append({"step": step, **metrics})

    def show(self, shown: Shown | None, *, sentence: str, step: int) -> None:
        self.shown.append((step, shown, sentence))

    def close(self) -> None:
        pass


def advantage(rewards: Tensor, group: Tensor, keep: Tensor, prompt_id: Tensor) -> Advantages:
    return group_advantage(rewards, group, keep)


@dataclass(frozen=True)
class Toy:
    """The settings of a trainer of fakes."""

    objective: Objective = field(default_factory=Objective)
    num_prompts: int = 2
    group_size: int = 4
    anchors_per_group: int = 4
    num_steps: int = 4
    trained: tuple[int, ...] | None = None
    kernel: str = "flow_sde"
    eta: float = 0.7
    guidance: float = 1.0
    num_updates: int = 1
    micro_batch: int = 0
    steps_per_pass: int = 1
    storage_dtype: torch.dtype = torch.float32
    replay_tolerance: float = 1e-3
    overlap: bool = True
    learning_rate: float = 1e-2
    dropout: float = 0.0
    reward: Reward = field(default_factory=FakeReward)
    on_failure: FailurePolicy = "abort"
    guard: Guard = field(default_factory=Guard)

    def but(self, **changes: object) -> Toy:
        return replace(self, **changes)  # type: ignore[arg-type]  # tests name fields

    @property
    def transitions(self) -> Transitions:
        kernel = make_kernel(self.kernel, eta=self.eta)
        return Transitions.build(kernel, RectifiedFlow(), time_grid(self.num_steps))

    @property
    def trained_steps(self) -> tuple[int, ...]:
        allowed = self.transitions.stochastic.tolist()
        return select_steps("all" if self.trained is None else self.trained, allowed)

    def sampler(
        self,
        model: DiffusionModel,
        *,
        seed: int = 5,
        reference: Forward | None = None,
    ) -> Sampler:
        """Samples a model, which may take the KL to a reference."""
        return Sampler(
            Forward(model, guidance=self.guidance),
            self.transitions,
            latent_shape=(1, 2, 2),
            seed=seed,
            trained=self.trained_steps,
            micro_batch=self.micro_batch,
            reduction=self.objective.reduction,
            storage_dtype=self.storage_dtype,
            reference=reference if self.objective.kl_in_return else None,
        )

    def trainer(self, model: FakeModel | None = None) -> Trainer:
        """A fresh trainer: equal settings give equal trainers.

        A planted model takes the weights that the trainer would have had.
        """
        weights = FakeModel(dropout=self.dropout)
        if model is None:
            model = weights
        else:
            model.transformer = weights.transformer
        captions = torch.arange(30) % len(PROMPTS)
        media = torch.rand((30, 3, 2, 2), generator=torch.Generator().manual_seed(1))
        pool = Pool(
            Prompts.numbered(PROMPTS), model.encode(PROMPTS), model.encode_media(media), captions
        )
        optimizer = torch.optim.AdamW(model.transformer.parameters(), lr=self.learning_rate)
        reference = None
        if self.objective.data_target == "teacher" or self.objective.regularizer == "reference":
            reference = Forward(FakeModel(seed=7), guidance=self.guidance)
        sampler = self.sampler(model, reference=reference)
        learner = Learner(
            [
                Gradient(
                    sampler,
                    self.objective,
                    steps_per_pass=self.steps_per_pass,
                    reference=reference,
                )
            ],
            optimizer,
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
            EMA(model.transformer, decay=0.9),
            grad_clip=1.0,
            guard=self.guard,
        )
        return Trainer(
            dealer=Dealer(
                captions,
                num_prompts=len(PROMPTS),
                seed=5,
                prompts_per_step=self.num_prompts,
                anchors_per_group=self.anchors_per_group,
            ),
            collector=Collector(
                [sampler],
                pool,
                Scorer([WeightedReward("fake", self.reward)], on_failure=self.on_failure),
                Inspector(self.guard, learner.gradients, self.replay_tolerance),
                group_size=self.group_size,
                overlap=self.overlap,
            ),
            advantage=advantage,
            learner=learner,
            watch=Watch(learner),
            num_updates=self.num_updates,
        )


def fake_model(trainer: Trainer) -> FakeModel:
    model = trainer.forward.model
    assert isinstance(model, FakeModel)
    return model


def gradients(model: FakeModel) -> Tensor:
    """All gradients as one vector."""
    return torch.cat(
        [
            (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
            for p in model.transformer.parameters()
        ]
    )


def weights(model: FakeModel) -> Tensor:
    """All weights as one vector, a copy."""
    return torch.cat([p.detach().flatten() for p in model.transformer.parameters()])
