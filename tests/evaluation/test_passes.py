"""Samples and drift: in passes of a bounded size, with conditions that are read for each."""

from __future__ import annotations

import pytest
import torch
from tests.fakes import PROMPTS, FakeCondition, FakeModel
from torch import Tensor

from ddrl.evaluation.measures.drift import DriftMeter
from ddrl.evaluation.measures.generate import generate
from ddrl.records import Condition
from ddrl.training.forward import Forward


class Rows:
    """Conditions by row that keep count of what is read."""

    def __init__(self, *labels: int) -> None:
        self.labels, self.read = torch.tensor(labels), list[list[int]]()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> Condition:
        label = self.labels[index]
        self.read.append(label.tolist())
        return FakeCondition(label)


def losses(micro_batch: int, condition: Rows, x0: Tensor) -> Tensor:
    meter = DriftMeter(
        x0=x0, caption_id=torch.arange(10) % 3, seed=3, num_times=4, micro_batch=micro_batch
    )
    return meter.losses(Forward(FakeModel()), condition)


def test_drift_is_the_same_in_any_passes() -> None:
    x0 = torch.randn(10, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    whole, parts = Rows(1, 2, 3), Rows(1, 2, 3)
    expected = losses(100, whole, x0)
    torch.testing.assert_close(losses(4, parts, x0), expected)
    assert expected.shape == (10,)
    assert len(whole.read) == 1
    assert [len(rows) for rows in parts.read] == [4, 4, 2]
    # A row's loss depends on its own data and condition alone.
    other = x0.clone()
    other[0] += 1
    changed = losses(100, Rows(1, 2, 3), other) != expected
    assert changed.tolist() == [True] + [False] * 9


def test_drift_is_what_its_definition_says() -> None:
    """One sample, one time: t = 1/2, so that the loss is a mean over one noise."""
    x0, forward = torch.ones(1, 1, 2, 2), Forward(FakeModel())
    meter = DriftMeter(x0=x0, caption_id=torch.tensor([0]), seed=3, num_times=1)
    found = float(meter.losses(forward, Rows(2)))
    noise = meter._noise(torch.tensor([0]), (1, 2, 2))[:, 0]
    t = torch.tensor([0.5])
    with torch.no_grad():
        velocity = forward.plain((x0 + noise) / 2, t, FakeCondition(torch.tensor([2])))
    assert found == pytest.approx(float((velocity - (noise - x0)).square().mean()), rel=1e-5)


def test_samples_take_the_condition_of_their_prompt() -> None:
    forward, texts = Forward(FakeModel()), list(PROMPTS)
    common = {"samples_per_prompt": 3, "latent_shape": (1, 2, 2), "seed": 1, "num_steps": 3}
    encoded = generate(forward, texts, **common)  # type: ignore[arg-type]
    rows = Rows(1, 2, 3)
    read = generate(forward, texts, condition=rows, micro_batch=4, **common)  # type: ignore[arg-type]
    torch.testing.assert_close(read.media, encoded.media)
    assert rows.read == [[1, 1, 1, 2], [2, 2, 3, 3], [3]]
    assert read.prompts.text == tuple(text for text in texts for _ in range(3))


def test_equal_texts_with_other_conditions_are_other_prompts() -> None:
    forward = Forward(FakeModel())
    common = {"samples_per_prompt": 2, "latent_shape": (1, 2, 2), "seed": 1, "num_steps": 3}
    one = generate(forward, ["red", "red"], condition=Rows(1, 1), **common)  # type: ignore[arg-type]
    two = generate(forward, ["red", "red"], condition=Rows(1, 2), **common)  # type: ignore[arg-type]
    assert one.prompts.prompt_id.tolist() == [0, 0, 1, 1]
    assert torch.equal(one.media[:2], two.media[:2])
    assert not torch.equal(one.media[2:], two.media[2:])
