"""Trains the embedded models from random weights, with plain flow matching."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.models.base import DiffusionModel
from ddrl.models.ema import EMA
from ddrl.objective.regularizer import velocity_error
from ddrl.records import Condition
from ddrl.seeding import generator

Complete = Callable[[Condition, Tensor], Condition]


@dataclass(frozen=True)
class PretrainSettings:
    """Settings of the training of a base.

    Attributes:
        steps: optimizer steps.
        batch_size: samples per step.
        learning_rate: peak of the rate, between a warm-up and a cosine to 0.
        label_noise: share of captions to replace by random ones, so that RL has something to do.
        condition_dropout: share of captions to drop.
        ema: decay of the averaged weights, which become the base.
        seed: seed of batches and noise.
    """

    steps: int = 3000
    batch_size: int = 256
    learning_rate: float = 1e-3
    label_noise: float = 0.5
    condition_dropout: float = 0.1
    ema: float = 0.999
    seed: int = 0


def pretrain(
    model: DiffusionModel,
    x0: Tensor,
    condition: Condition,
    caption_id: Tensor,
    *,
    settings: PretrainSettings,
    complete: Complete | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> float:
    """Train with the velocity loss at uniform times; the averaged weights are left in the model.

    Args:
        model: model to train in place, on the device where it is.
        x0: clean latents, shape (N, ...).
        condition: one row per caption.
        caption_id: the caption of each latent, shape (N,).
        settings: settings of the training.
        complete: adds to a condition the first frames of the latents at these rows.
        progress: called with the step and its loss, now and then.

    Returns:
        The mean loss per dimension of the last tenth of the steps.
    """
    rng = generator(settings.seed, "pretrain")
    caption_id = caption_id.clone()
    noisy = torch.rand(len(caption_id), generator=rng) < settings.label_noise
    caption_id[noisy] = torch.randint(len(condition), (int(noisy.sum()),), generator=rng)
    optimizer = torch.optim.AdamW(
        model.transformer.parameters(), lr=settings.learning_rate, weight_decay=0.0
    )
    total = max(1, settings.steps)
    warmup = max(1, min(100, total // 10))

    def schedule(step: int) -> float:
        return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / total))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    ema = EMA(model.transformer, decay=settings.ema)
    condition, empty = condition.to("cpu"), model.encode([""]).to("cpu")
    tail: list[float] = []
    for step in range(settings.steps):
        loss = _loss(model, x0, condition, caption_id, empty, settings, rng, complete)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        scheduler.step()
        ema.update()
        if step % 50 == 49 or step == settings.steps - 1:
            value = float(loss.detach())
            if step >= 0.9 * settings.steps:
                tail.append(value)
            if progress is not None:
                progress(step + 1, value)
    with torch.no_grad():
        averages = ema.state_dict()
        for name, parameter in model.transformer.named_parameters():
            if name in averages:
                parameter.copy_(averages[name])
    return sum(tail) / max(1, len(tail))


def _loss(
    model: DiffusionModel,
    x0: Tensor,
    condition: Condition,
    caption_id: Tensor,
    empty: Condition,
    settings: PretrainSettings,
    rng: torch.Generator,
    complete: Complete | None,
) -> Tensor:
    """Return the velocity loss of one batch, per dimension."""
    rows = torch.randint(len(x0), (settings.batch_size,), generator=rng)
    noise = torch.randn(x0[rows].shape, generator=rng)
    t = torch.rand(len(rows), generator=rng)
    dropped = torch.rand(len(rows), generator=rng) < settings.condition_dropout
    embedded = condition[caption_id[rows]].where(dropped, empty)
    if complete is not None:
        embedded = complete(embedded, rows)
    device = next(model.transformer.parameters()).device
    clean, noise, t = x0[rows].to(device), noise.to(device), t.to(device)
    noisy = model.process.add_noise(clean, noise, t)
    velocity = model.predict(noisy, t, embedded.to(device))
    target = model.process.velocity(clean, noise, t)
    return velocity_error(velocity, target, reduction="mean").mean()
