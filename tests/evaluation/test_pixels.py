from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ddrl.errors import DataError
from ddrl.evaluation.measures import pixels

LUMA = (0.2126, 0.7152, 0.0722)


def flat(red: float, green: float, blue: float, *, size: int = 4) -> Tensor:
    return torch.tensor([red, green, blue])[None, :, None, None].expand(1, 3, size, size)


def halves(low: float, high: float) -> Tensor:
    """A grey picture of 4 x 4: two dark columns and two bright ones."""
    picture = torch.full((1, 3, 4, 4), low)
    picture[..., 2:] = high
    return picture


def test_brightness_is_the_luma_of_a_flat_colour() -> None:
    for channel, weight in enumerate(LUMA):
        colour = [0.0, 0.0, 0.0]
        colour[channel] = 1.0
        assert float(pixels.brightness(flat(*colour))) == pytest.approx(weight)
    assert float(pixels.brightness(flat(1, 1, 1))) == pytest.approx(1.0)


def test_contrast_of_two_halves_is_half_their_distance() -> None:
    assert float(pixels.contrast(halves(0.0, 1.0))) == pytest.approx(0.5)
    assert float(pixels.contrast(halves(0.2, 0.6))) == pytest.approx(0.2)
    assert float(pixels.contrast(flat(0.3, 0.9, 0.1))) == pytest.approx(0.0, abs=1e-6)


def test_saturation_is_the_spread_of_the_channels() -> None:
    assert float(pixels.saturation(flat(0.5, 0.5, 0.5))) == 0.0
    assert float(pixels.saturation(flat(1.0, 0.25, 0.5))) == pytest.approx(0.75)
    # Coloured noise in black pixels is no colour.
    assert float(pixels.saturation(flat(0.01, 0.0, 0.0))) == pytest.approx(0.01)


def test_edge_density_counts_steps_above_the_threshold() -> None:
    """One step between columns: 3 of 9 pixels that have both neighbours."""
    assert float(pixels.edge_density(halves(0.0, 1.0))) == pytest.approx(3 / 9)
    assert float(pixels.edge_density(halves(0.0, 1.0).mT)) == pytest.approx(3 / 9)
    assert float(pixels.edge_density(halves(0.0, 0.09))) == 0.0
    assert float(pixels.edge_density(halves(0.0, 1.0)[:, :, :1])) == 0.0


def test_colour_entropy_of_equal_shares_is_their_logarithm() -> None:
    assert float(pixels.colour_entropy(flat(0.2, 0.4, 0.6))) == 0.0
    assert float(pixels.colour_entropy(halves(0.0, 1.0))) == pytest.approx(1.0)
    # 8 x 8 pixels of 64 different colours: log2(64) = 6 bits.
    level = (torch.arange(8) + 0.5) / 8
    picture = torch.stack(
        [level[:, None].expand(8, 8), level[None].expand(8, 8), torch.zeros(8, 8)]
    )
    assert float(pixels.colour_entropy(picture[None])) == pytest.approx(6.0)
    # Values inside one box are one colour.
    assert float(pixels.colour_entropy(halves(0.01, 0.12))) == 0.0


def test_dark_and_bright_fractions_count_pixels() -> None:
    picture = halves(0.05, 0.95)
    picture[..., 0] = 0.5
    assert float(pixels.dark_fraction(picture)) == pytest.approx(0.25)
    assert float(pixels.bright_fraction(picture)) == pytest.approx(0.5)


def test_a_clip_is_the_mean_of_its_frames() -> None:
    frames = torch.rand(6, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    for name, values in pixels.pixel_statistics(frames.reshape(2, 3, 3, 5, 7)).items():
        wanted = pixels.STATISTICS[name](frames).reshape(2, 3).mean(1)
        assert values == pytest.approx(wanted.numpy(), rel=1e-5), name


def test_statistics_stay_inside_their_ranges_and_values_outside_are_cut() -> None:
    media = 3 * torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    statistics = pixels.pixel_statistics(media)
    assert list(statistics) == list(pixels.STATISTICS) == list(pixels.RANGES)
    for name, values in statistics.items():
        assert values.shape == (8,)
        assert values.min() >= 0.0
        assert values.max() <= pixels.RANGES[name]
    assert float(pixels.pixel_statistics(flat(7, 7, 7))["brightness"][0]) == pytest.approx(1.0)


def test_standardised_difference() -> None:
    data = np.array([1.0, 3.0])
    assert pixels.standardised_difference(np.array([5.0, 5.0]), data) == pytest.approx(3.0)
    assert pixels.standardised_difference(data, data) == 0.0
    # Data without spread: the floor of 1 % of the range.
    constant = np.zeros(5)
    assert pixels.standardised_difference(np.full(3, 0.2), constant) == pytest.approx(20.0)
    difference = pixels.standardised_difference(np.full(3, 0.9), constant, largest=9.0)
    assert math.isclose(difference, 10.0)


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 1, 4, 4), (0, 3, 4, 4), (1, 2, 4, 3, 4, 4)])
def test_media_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="not \\(samples, 3, height, width\\)"):
        pixels.pixel_statistics(torch.zeros(shape))
