"""Noise drawn beside the work is that of one draw, and its thread ends with the rollout."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch
from tests.fakes import FakeCondition, FakeModel, Toy
from torch import Tensor

from ddrl import seeding as noise_module
from ddrl.records import Condition
from ddrl.seeding import NoiseAhead, SampleNoise, is_small, sample_noise
from ddrl.training.forward import Forward
from ddrl.training.rollout import Sampler, batches

SHAPE = (1, 4, 4)
NAMED = {"run_seed": 3, "purpose": "rollout", "step": 7}


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("ddrl-noise")]


def sampler(
    model: FakeModel, *, micro_batch: int = 0, dtype: torch.dtype = torch.float32
) -> Sampler:
    toy = Toy(num_steps=3)
    return Sampler(
        Forward(model),
        toy.transitions,
        latent_shape=SHAPE,
        seed=3,
        micro_batch=micro_batch,
        storage_dtype=dtype,
    )


class Linear(FakeModel):
    """A velocity for latents of any shape."""

    fails_at: int | None = None

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.calls.append((len(x_t), torch.is_grad_enabled()))
        if self.fails_at == len(self.calls):
            raise KeyboardInterrupt
        return 0.5 * x_t - t.reshape(-1, *[1] * (x_t.ndim - 1))


@pytest.mark.parametrize("size", [0, 2, 3, 5])
@pytest.mark.parametrize("ids", [(0, 1, 2, 3, 4), (7, 3, 3, 100, 0)])
def test_pieces_are_those_of_one_draw(ids: Sequence[int], size: int) -> None:
    whole = sample_noise((4, *SHAPE), sample_ids=ids, **NAMED)  # type: ignore[arg-type]
    noise = SampleNoise(SHAPE, num_steps=4, sample_ids=ids, **NAMED)  # type: ignore[arg-type]
    order = [(rows, k) for rows in batches(len(ids), size) for k in range(4)]
    found = [piece.clone() for piece in NoiseAhead(noise, order, device="cpu").pieces()]
    assert len(found) == len(order)
    assert all(torch.equal(f, whole[rows, k]) for f, (rows, k) in zip(found, order, strict=True))
    assert not threads()


@pytest.mark.parametrize("micro_batch", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_rollout_is_the_same_drawn_at_once_or_ahead(
    micro_batch: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    condition, group = FakeCondition(torch.tensor([1, 2])), torch.tensor([0, 0, 0, 1, 1])
    made = []
    for small in (4096, 1):
        monkeypatch.setattr(noise_module, "SMALL", small)
        assert is_small(SHAPE) == (small == 4096)
        one = sampler(Linear(), micro_batch=micro_batch, dtype=dtype)
        made.append(one.rollout(condition, group, step=2, sample_ids=[4, 9, 2, 0, 1]))
    at_once, ahead = made
    assert torch.equal(at_once.latents, ahead.latents)
    assert torch.equal(at_once.log_prob, ahead.log_prob)
    assert at_once.latents.dtype == dtype
    assert float(at_once.latents.float().std()) > 0.1
    assert not threads()


def test_the_next_piece_is_drawn_while_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = threading.Event()
    count = 0
    original = SampleNoise.draw

    def draw(noise: SampleNoise, *arguments: object, **more: object) -> Tensor:
        nonlocal count
        count += 1
        if count == 2:
            drawn.set()
        return original(noise, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(SampleNoise, "draw", draw)
    noise = SampleNoise(SHAPE, num_steps=4, sample_ids=[0], **NAMED)  # type: ignore[arg-type]
    pieces = NoiseAhead(noise, [(slice(0, 1), k) for k in range(4)], device="cpu").pieces()
    next(pieces)
    assert drawn.wait(timeout=10)
    pieces.close()
    assert count == 2  # and no further ahead
    assert not threads()


@pytest.mark.parametrize("place", ["model", "finished"])
def test_a_rollout_that_fails_leaves_no_thread(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_module, "SMALL", 1)
    model = Linear()
    model.fails_at = 4 if place == "model" else None

    def finished(*_: object) -> None:
        if place == "finished":
            raise ValueError("a reward failed")

    condition, group = FakeCondition(torch.tensor([1])), torch.zeros(4, dtype=torch.long)
    with pytest.raises(KeyboardInterrupt if place == "model" else ValueError):
        sampler(model, micro_batch=2).rollout(condition, group, step=0, finished=finished)
    assert not threads()


def test_what_fails_in_the_thread_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(*_: object, **__: object) -> Tensor:
        raise MemoryError("no room for noise")

    monkeypatch.setattr(SampleNoise, "draw", draw)
    noise = SampleNoise(SHAPE, num_steps=4, sample_ids=[0], **NAMED)  # type: ignore[arg-type]
    with pytest.raises(MemoryError, match="no room"):
        next(NoiseAhead(noise, [(slice(0, 1), 0)], device="cpu").pieces())


@pytest.mark.parametrize(
    ("shape", "small"),
    [((4, 8, 8), True), ((16, 16, 16), False), ((16, 64, 65), False), ((3, 37, 41), True)],
)
def test_what_is_drawn_at_once(shape: tuple[int, ...], small: bool) -> None:
    """What is small, or has pieces that do not end where PyTorch's blocks of numbers do."""
    assert is_small(shape) == small
