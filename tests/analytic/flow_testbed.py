"""A one-dimensional flow model whose optimum is known: the testbed of the flow experiments.

Data 0.6 N(-1.5, .5) + 0.4 N(1.5, .5), reward tanh(x) + 0.3 sin(3x), beta .5. The optimum of the
objective is the tilt p_data exp(r / beta) / Z, eq. (O3), which a grid gives to any precision.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn

from ddrl.diffusion.kernels import make_kernel
from ddrl.diffusion.process import RectifiedFlow
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.transition import Transitions
from ddrl.models.ema import EMA
from ddrl.objective.advantage import center_advantage, log_partition, tilt_advantage
from ddrl.objective.loss import Objective
from ddrl.records import Anchor, Condition
from ddrl.seeding import generator
from ddrl.training.forward import Forward
from ddrl.training.pretrain import PretrainSettings, pretrain
from ddrl.training.rollout import Sampler
from ddrl.training.update import Gradient

Mixture = tuple[tuple[float, float, float], ...]
DATA: Mixture = ((0.6, -1.5, 0.5), (0.4, 1.5, 0.5))
OTHER: Mixture = ((0.2, -1.0, 0.7), (0.8, 1.2, 0.6))
BETA = 0.5
BINS = torch.linspace(-4, 4, 65, dtype=torch.float64)


@dataclass(frozen=True)
class Nothing(Condition):
    """No condition: a zero per row, which only carries the length."""

    zero: Tensor


class LineModel:
    """A :class:`~ddrl.models.base.DiffusionModel` of numbers: an MLP of 3 x 64."""

    process = RectifiedFlow()

    def __init__(self, *, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            widths = [(9, 64), (64, 64), (64, 64)]
            layers = [layer for i, o in widths for layer in (nn.Linear(i, o), nn.SiLU())]
            self.transformer: nn.Module = nn.Sequential(*layers, nn.Linear(64, 1))

    def encode(self, texts: Sequence[str]) -> Nothing:
        return Nothing(torch.zeros(len(texts)))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        angles = t[:, None] * (math.pi * 2.0 ** torch.arange(4))
        features = torch.cat([x_t, angles.sin(), angles.cos()], dim=1)
        return cast(Tensor, self.transformer(features))

    def encode_media(self, media: Tensor) -> Tensor:
        return media

    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:
        return latents

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        return (1,)

    def time_shift(self, latent_shape: Sequence[int], num_steps: int | None = None) -> float:
        return 1.0


def reward(x: Tensor) -> Tensor:
    """tanh(x) + 0.3 sin(3x)."""
    return x.tanh() + 0.3 * (3 * x).sin()


def draw(mixture: Mixture, size: int, *, seed: int) -> Tensor:
    """Samples of a mixture, shape (size, 1)."""
    rng = generator(seed, "mixture")
    weights, means, stds = (torch.tensor(row) for row in zip(*mixture, strict=True))
    component = torch.multinomial(weights, size, replacement=True, generator=rng)
    return (means[component] + stds[component] * torch.randn(size, generator=rng))[:, None]


@lru_cache
def _fine_density(mixture: Mixture) -> tuple[Tensor, Tensor]:
    x = torch.linspace(-6, 6, 12001, dtype=torch.float64)
    density = sum(
        (w * torch.exp(-0.5 * ((x - m) / s) ** 2) / s for w, m, s in mixture), torch.zeros_like(x)
    )
    return x, density / density.sum()


def tilt_histogram(mixture: Mixture, *, beta: float = BETA) -> Tensor:
    """Mass of mixture * exp(r / beta) in each bin; a last entry holds what is outside."""
    x, density = _fine_density(mixture)
    tilted = density * (reward(x) / beta).exp()
    return _histogram(x, tilted / tilted.sum())


def _histogram(x: Tensor, weight: Tensor) -> Tensor:
    index = torch.bucketize(x, BINS, right=True) - 1
    index = torch.where((index < 0) | (index >= len(BINS) - 1), len(BINS) - 1, index)
    return torch.zeros(len(BINS), dtype=torch.float64).index_add(0, index, weight.double())


def total_variation(samples: Tensor, target: Tensor) -> float:
    """TV between a histogram of samples and a binned target."""
    x = samples.flatten().double()
    return float((_histogram(x, torch.full_like(x, 1 / len(x))) - target).abs().sum() / 2)


@lru_cache
def _pretrained(mixture: Mixture, steps: int) -> LineModel:
    model = LineModel()
    settings = PretrainSettings(
        steps=steps, batch_size=1024, learning_rate=4e-3, label_noise=0.0, condition_dropout=0.0
    )
    data = draw(mixture, 50_000, seed=1)
    caption = torch.zeros(len(data), dtype=torch.int64)
    pretrain(model, data, model.encode([""]), caption, settings=settings)
    return model


def base_model(mixture: Mixture = DATA, *, steps: int = 2500) -> LineModel:
    """A copy of the model pretrained on a mixture."""
    return copy.deepcopy(_pretrained(mixture, steps))


@dataclass(frozen=True)
class Setup:
    """One training run on the testbed."""

    objective: Objective = field(
        default_factory=lambda: Objective(policy="reinforce", beta=BETA, data_per_step="one")
    )
    kernel: str = "flow_sde"
    eta: float = 0.7
    num_steps: int = 10
    num_samples: int = 128
    iterations: int = 800
    learning_rate: float = 4e-3
    ema_decay: float = 0.995
    seed: int = 0
    # Breaks the shared step weight, as ports of the method do: the data term alone is weighted.
    plain_velocity_coefficient: float | None = None

    @property
    def transitions(self) -> Transitions:
        kernel = make_kernel(self.kernel, eta=self.eta)
        return Transitions.build(kernel, RectifiedFlow(), time_grid(self.num_steps))


def train(model: LineModel, setup: Setup, *, reference: LineModel | None = None) -> LineModel:
    """Post-train a copy of the model; its averaged weights are returned."""
    model = copy.deepcopy(model)
    objective = setup.objective
    held_to = None if reference is None else Forward(reference)
    sampler = Sampler(
        Forward(model),
        setup.transitions,
        latent_shape=(1,),
        seed=setup.seed,
        reference=held_to if objective.kl_in_return else None,
    )
    fold = len(sampler.trained)
    gradient = Gradient(sampler, objective, steps_per_pass=fold, reference=held_to)
    if setup.plain_velocity_coefficient is not None:
        coefficient = setup.plain_velocity_coefficient
        gradient._regularizer_weight = torch.full((setup.num_steps,), coefficient)
    optimizer = torch.optim.Adam(model.transformer.parameters(), lr=setup.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, setup.iterations)
    ema = EMA(model.transformer, decay=setup.ema_decay)
    data = draw(DATA, 100_000, seed=2)
    partition = torch.tensor([log_partition(reward(data[:, 0]), beta=BETA)])
    condition = model.encode([""])
    group = torch.zeros(setup.num_samples, dtype=torch.int64)
    keep = torch.ones(len(group), dtype=torch.bool)
    num_anchors = 8 * setup.num_samples
    rng = generator(setup.seed, "rows")
    for step in range(setup.iterations):
        trajectory = sampler.rollout(condition, group, step=step)
        rewards = reward(trajectory.final[:, 0])
        if objective.regularizer == "reference":
            # The reverse KL's optimum is a tilt of the reference for the plain reward.
            advantages = center_advantage(rewards, group, keep)
        else:
            advantages = tilt_advantage(rewards, group, keep, beta=BETA, partition=partition)
        optimizer.zero_grad()
        gradient.policy(trajectory, advantages)
        if objective.regularizer == "data":
            rows = torch.randint(len(data), (num_anchors,), generator=rng)
            nothing = Nothing(torch.zeros(num_anchors))
            anchor = Anchor(data[rows], nothing, torch.arange(num_anchors))
            gradient.data(anchor, step=step)
        torch.nn.utils.clip_grad_norm_(model.transformer.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        ema.update()
    with torch.no_grad():
        for name, parameter in model.transformer.named_parameters():
            parameter.copy_(ema.state_dict()[name])
    return model


def sample(model: LineModel, setup: Setup, *, size: int = 100_000) -> Tensor:
    """Samples of the stochastic sampler that was trained, shape (size,)."""
    transitions = setup.transitions
    rng = generator(setup.seed, "evaluation")
    x = torch.randn(size, 1, generator=rng)
    with torch.no_grad():
        for k in range(len(transitions)):
            t = torch.full((size,), float(transitions.times[k]))
            velocity = model.predict(x, t, Nothing(t))
            noise = torch.randn(size, 1, generator=rng)
            x = (
                float(transitions.a[k]) * x
                + float(transitions.b[k]) * velocity
                + float(transitions.std[k]) * noise
            )
    return x[:, 0]


def tv_to_tilt(model: LineModel, setup: Setup, mixture: Mixture = DATA) -> float:
    """TV of a model's samples to the tilt of a mixture."""
    return total_variation(sample(model, setup), tilt_histogram(mixture))


def with_objective(setup: Setup, **changes: object) -> Setup:
    """The setup with other settings of its objective."""
    return replace(setup, objective=replace(setup.objective, **changes))  # type: ignore[arg-type]
