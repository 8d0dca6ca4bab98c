"""The network of clips: what it predicts before it has learned, and what it is scaled to."""

from __future__ import annotations

import pytest
import torch

from ddrl.data.embedded.moving_digits import moving_digit_splits
from ddrl.diffusion.process import RectifiedFlow
from ddrl.models.tiny.video_networks import MEAN, SPREAD, VideoDiT


def network(*, trained: bool = False) -> VideoDiT:
    """With random weights everywhere if ``trained``, else as it begins."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VideoDiT(shape=(1, 8, 6, 6), num_words=5, width=16, depth=1, heads=2, patch=(8, 3))
        if trained:
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("t", [0.0, 0.2, 0.7, 1.0])
def test_a_fresh_network_is_the_best_linear_estimate(t: float) -> None:
    """For Gaussian data, E[velocity | x_t]: what is left over does not depend on x_t."""
    rng = torch.Generator().manual_seed(0)
    x0 = MEAN + SPREAD * torch.randn((400, 1, 8, 6, 6), generator=rng)
    noise = torch.randn(x0.shape, generator=rng)
    times = torch.full((len(x0),), t)
    process = RectifiedFlow()
    x_t = process.add_noise(x0, noise, times)
    with torch.no_grad():
        predicted = network()(x_t, times, torch.ones((len(x0), 3), dtype=torch.int64))
    left = process.velocity(x0, noise, times) - predicted
    assert abs(float(left.mean())) < 0.02
    assert abs(float((left * (x_t - x_t.mean())).mean())) < 0.02
    assert float(left.square().mean()) == pytest.approx(
        SPREAD**2 / (((1 - t) * SPREAD) ** 2 + t**2), rel=0.05
    )


def test_the_scale_is_that_of_the_clips() -> None:
    for size, frames in (((12, 12), 8), ((16, 16), 8)):
        latents = 2 * moving_digit_splits(size=size, frames=frames).heldout.media[:, :, 0] - 1
        assert float(latents.mean()) == pytest.approx(MEAN, abs=0.15)
        assert float(latents.std()) == pytest.approx(SPREAD, abs=0.1)


def test_given_frames_are_seen_and_are_not_returned() -> None:
    model = network(trained=True)
    x, t = torch.zeros(2, 1, 7, 6, 6), torch.full((2,), 0.5)
    words = torch.ones((2, 3), dtype=torch.int64)
    given = torch.stack([torch.full((1, 1, 6, 6), level) for level in (-1.0, 1.0)])
    out = model(x, t, words, given)
    assert out.shape == x.shape
    assert not torch.allclose(out[0], out[1])
