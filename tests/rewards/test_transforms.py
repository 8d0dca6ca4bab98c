from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ddrl.jobs.reward_audit.transforms import (
    TRANSFORMS,
    Transform,
    blank,
    blur,
    brighten,
    centre_crop,
    flip,
    freeze,
    half_rate,
    jpeg,
    noise,
    reverse,
    saturate,
)

IMAGES = torch.rand(3, 3, 24, 20, generator=torch.Generator().manual_seed(0))
CLIPS = torch.rand(2, 5, 3, 16, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("transform", "media"),
    [(t, IMAGES) for t in TRANSFORMS if not t.clips_only] + [(t, CLIPS) for t in TRANSFORMS],
    ids=lambda one: one.name if isinstance(one, Transform) else f"{one.ndim}d",
)
def test_shape_range_and_an_input_that_is_left_as_it_was(
    transform: Transform, media: Tensor
) -> None:
    before = media.clone()
    changed = transform.apply(media)
    assert changed.shape == media.shape
    assert changed.dtype == media.dtype
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(media, before)
    assert (changed - media).abs().amax() > 0.01


@pytest.mark.parametrize(
    "transform", [t for t in TRANSFORMS if not t.clips_only], ids=lambda one: one.name
)
def test_a_clip_is_changed_frame_by_frame(transform: Transform) -> None:
    frames = transform.apply(CLIPS.flatten(0, 1)).reshape(CLIPS.shape)
    torch.testing.assert_close(transform.apply(CLIPS), frames)


def test_blur_spreads_a_point_by_its_variance() -> None:
    point = torch.zeros(1, 3, 41, 41, dtype=torch.float64)
    point[..., 20, 20] = 1
    spread = blur(point, sigma=2.0)[0, 0]
    torch.testing.assert_close(spread.sum(), torch.tensor(1.0, dtype=torch.float64))
    at = torch.arange(41) - 20
    assert float((spread.sum(0) * at**2).sum()) == pytest.approx(4.0, rel=0.01)
    assert float(spread[20, 20]) == pytest.approx(1 / (2 * math.pi * 4), rel=0.01)
    flat = torch.full((1, 3, 9, 9), 0.3)
    torch.testing.assert_close(blur(flat), flat)


def test_saturation_moves_along_the_line_to_grey() -> None:
    orange = torch.tensor([0.6, 0.5, 0.4]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    luma = 0.299 * 0.6 + 0.587 * 0.5 + 0.114 * 0.4
    torch.testing.assert_close(saturate(orange, 0.0), torch.full((1, 3, 4, 4), luma))
    doubled = saturate(orange, 2.0)[0, :, 0, 0]
    torch.testing.assert_close(doubled, luma + 2 * (orange[0, :, 0, 0] - luma))
    torch.testing.assert_close(saturate(IMAGES, 1.0), IMAGES)


def test_brightness_and_blank() -> None:
    assert brighten(torch.tensor([[[[0.2, 0.95, 0.1]]]]), 0.15).flatten().tolist() == pytest.approx(
        [0.35, 1.0, 0.25]
    )
    assert brighten(torch.tensor([[[[0.1]]]]), -0.15).item() == 0
    assert blank(CLIPS)[1, 2, 0].std() < 1e-6
    torch.testing.assert_close(blank(CLIPS)[..., 3, 4], CLIPS.mean((-2, -1)))


def test_noise_is_the_same_for_every_call_and_of_its_deviation() -> None:
    grey = torch.full((4, 3, 32, 32), 0.5)
    assert torch.equal(noise(grey), noise(grey))
    assert float((noise(grey, 0.05) - grey).std()) == pytest.approx(0.05, rel=0.05)


def test_jpeg_keeps_a_flat_picture_and_coarsens_others() -> None:
    flat = torch.full((1, 3, 16, 16), 128 / 255)
    torch.testing.assert_close(jpeg(flat), flat, atol=1.5 / 255, rtol=0)
    grey = IMAGES.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    fine, coarse = (float((jpeg(grey, q) - grey).abs().mean()) for q in (95, 10))
    assert 0 < 3 * fine < coarse


def test_crop_enlarges_the_middle() -> None:
    ramp = (torch.arange(20) / 20).expand(1, 3, 20, 20)
    rows = centre_crop(ramp, 0.5)[0, 0, 7]
    torch.testing.assert_close(rows.diff(), torch.full((19,), 0.5 / 20))
    assert float(rows.mean()) == pytest.approx(float(ramp.mean()))


def test_flip_and_time() -> None:
    assert torch.equal(flip(IMAGES)[..., 0], IMAGES[..., -1])
    assert torch.equal(reverse(CLIPS)[:, 0], CLIPS[:, 4])
    assert torch.equal(freeze(CLIPS), CLIPS[:, [0] * 5])
    assert torch.equal(half_rate(CLIPS), CLIPS[:, [0, 0, 2, 2, 4]])
