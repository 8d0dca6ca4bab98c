"""Plain flow matching: it lowers the loss, repeats itself, and leaves the average behind."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from tests.fakes import PROMPTS, FakeCondition, FakeModel, weights
from torch import Tensor

from ddrl.records import Condition
from ddrl.training.pretrain import PretrainSettings, pretrain

SETTINGS = PretrainSettings(steps=300, batch_size=32, learning_rate=1e-2, ema=0.9)
RNG = torch.Generator().manual_seed(0)
CAPTION = torch.arange(60) % 3
LEVEL = torch.tensor([-1.0, 0.0, 1.0])
X0 = LEVEL[CAPTION][:, None, None, None] + 0.1 * torch.randn((60, 1, 2, 2), generator=RNG)


def run(**changes: object) -> tuple[FakeModel, float, list[tuple[int, float]]]:
    model, told = FakeModel(), list[tuple[int, float]]()
    settings = dataclasses.replace(SETTINGS, **changes)  # type: ignore[arg-type]  # tests name fields
    loss = pretrain(
        model,
        X0,
        model.encode(PROMPTS),
        CAPTION,
        settings=settings,
        progress=lambda step, loss: told.append((step, loss)),
    )
    return model, loss, told


def predicted_level(model: FakeModel) -> Tensor:
    """The mean of x0 that the model sees behind pure noise, by caption."""
    noise = torch.randn((300, 1, 2, 2), generator=torch.Generator().manual_seed(1))
    condition = model.encode(PROMPTS)[torch.arange(300) % 3]
    with torch.no_grad():
        x0 = noise - model.predict(noise, torch.ones(300), condition)
    return torch.stack([x0[i::3].mean() for i in range(3)])


def test_it_learns_the_data_of_each_caption() -> None:
    model, loss, told = run(label_noise=0.0)
    assert loss < told[0][1]
    assert torch.allclose(predicted_level(model), LEVEL, atol=0.4)


def test_label_noise_leaves_something_to_learn() -> None:
    spread = [float(predicted_level(run(label_noise=noise)[0]).std()) for noise in (0.0, 0.5, 1.0)]
    assert spread[0] > 1.2 * spread[1] > 1.5 * spread[2]


def test_it_repeats_itself() -> None:
    one, two = run(steps=20), run(steps=20)
    assert torch.equal(weights(one[0]), weights(two[0]))
    assert one[1:] == two[1:]
    assert not torch.equal(weights(one[0]), weights(run(steps=20, seed=1)[0]))


def test_progress_ends_with_the_last_step() -> None:
    told = run(steps=120)[2]
    assert [step for step, _ in told] == [50, 100, 120]


def test_no_steps_leave_fresh_weights() -> None:
    model, loss, told = run(steps=0)
    assert torch.equal(weights(model), weights(FakeModel()))
    assert (loss, told) == (0.0, [])


def test_captions_are_not_changed_for_the_caller() -> None:
    before = CAPTION.clone()
    run(steps=2, label_noise=1.0)
    assert torch.equal(CAPTION, before)


def test_frozen_weights_stay() -> None:
    model = FakeModel()
    first = next(model.transformer.parameters())
    first.requires_grad_(False)
    before = first.clone()
    pretrain(
        model,
        X0,
        model.encode(PROMPTS),
        CAPTION,
        settings=dataclasses.replace(SETTINGS, steps=5),
    )
    assert torch.equal(first, before)
    assert not torch.equal(weights(model), weights(FakeModel()))


def test_what_is_left_is_the_average() -> None:
    """Of one step with a decay of .9: a tenth of the way."""
    fresh = weights(FakeModel())
    (whole, *_), (tenth, *_) = run(steps=1, ema=0.0), run(steps=1, ema=0.9)
    moved = weights(whole) - fresh
    assert float(moved.abs().max()) > 0.001
    torch.testing.assert_close(weights(tenth), fresh + 0.1 * moved, rtol=0, atol=1e-6)


def test_the_loss_is_the_mean_over_the_last_tenth() -> None:
    """Of 520 steps, losses are taken at 50, 100, ... 500 and 520: the last two."""
    _, loss, told = run(steps=520)
    assert [step for step, _ in told][-2:] == [500, 520]
    assert loss == pytest.approx((told[-1][1] + told[-2][1]) / 2)


def test_the_rate_warms_up_for_a_tenth_and_ends_at_0(monkeypatch: pytest.MonkeyPatch) -> None:
    rates, step = [], torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW) -> object:
        rates.append(self.param_groups[0]["lr"])
        return step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    run(steps=30)
    cosine = [0.5 * (1 + math.cos(math.pi * i / 30)) for i in range(30)]
    warm = [1 / 3, 2 / 3, *[1.0] * 28]
    assert rates == pytest.approx([0.01 * a * b for a, b in zip(cosine, warm, strict=True)])


def test_what_belongs_to_the_latents_is_added_to_their_condition() -> None:
    rows_seen = []

    def complete(condition: Condition, rows: Tensor) -> FakeCondition:
        assert isinstance(condition, FakeCondition)
        assert condition.label.tolist() == (CAPTION[rows] + 1).tolist()
        rows_seen.append(rows)
        return FakeCondition(torch.zeros_like(condition.label))

    settings = dataclasses.replace(SETTINGS, steps=3, label_noise=0.0, condition_dropout=0.0)
    found = []
    for caption, adds in ((CAPTION, complete), (CAPTION, None)):
        model = FakeModel()
        pretrain(model, X0, model.encode(PROMPTS), caption, settings=settings, complete=adds)
        found.append(weights(model))
    assert [len(rows) for rows in rows_seen] == [32, 32, 32]
    assert not torch.equal(found[0], found[1])
