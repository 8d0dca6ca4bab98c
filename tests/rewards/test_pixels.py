"""Squares for vision towers, against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil

from ddrl.rewards.networks.pixels import MEAN, STD, cropped_square, padded_square

SIZES = [(64, 64), (300, 480), (225, 224), (227, 224), (224, 231), (480, 832), (20, 90)]


def picture(height: int, width: int) -> Tensor:
    """Smooth, with contrast, at whole levels."""
    draw = torch.Generator().manual_seed(height * width)
    coarse = torch.rand((1, 3, 7, 5), generator=draw)
    pixels = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (255 * pixels).round() / 255


def levels_of(found: Tensor) -> Tensor:
    """0 to 255, before the normalization."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    return 255 * (found * std + mean)


@pytest.mark.parametrize("size", SIZES)
def test_the_cropped_square_is_torchvisions(size: tuple[int, int]) -> None:
    """Resize(224, bicubic), CenterCrop(224), whose corner is the rounded half of the rest."""
    height, width = size
    image = picture(height, width)
    short = min(size)
    columns, rows = (224 * side // short for side in (width, height))
    whole = Image.fromarray((255 * image[0]).round().byte().movedim(0, -1).numpy())
    whole = whole.resize((columns, rows), Image.Resampling.BICUBIC)
    left, top = (round((side - 224) / 2) for side in (columns, rows))
    expected = torch.from_numpy(np.array(whole.crop((left, top, left + 224, top + 224))))
    found = levels_of(cropped_square(image, 224)[0])
    off = (found - expected.movedim(-1, 0)).abs()
    assert float(off.max()) <= 2.01
    assert float(off.mean()) < 0.02


def test_it_is_that_of_transformers_where_the_rest_is_even() -> None:
    image = picture(300, 480)
    array = (255 * image[0]).round().byte().movedim(0, -1).numpy()
    expected = CLIPImageProcessorPil()(images=array, return_tensors="pt")["pixel_values"]
    assert float((cropped_square(image, 224) - expected).abs().mean()) < 0.001


@pytest.mark.parametrize("size", SIZES)
def test_the_padded_square_holds_all_of_the_picture(size: tuple[int, int]) -> None:
    """Pillow resizes numbers with a fraction without rounding, as HPSv2 resizes tensors."""
    height, width = size
    image = picture(height, width)
    scale = 224 / max(size)
    rows, columns = round(height * scale), round(width * scale)
    expected = torch.zeros(3, 224, 224)
    top, left = (224 - rows) // 2, (224 - columns) // 2
    for channel in range(3):
        plane = Image.fromarray(255 * image[0, channel].numpy(), mode="F")
        small = np.array(plane.resize((columns, rows), Image.Resampling.BICUBIC))
        expected[channel, top : top + rows, left : left + columns] = torch.from_numpy(small)
    found = levels_of(padded_square(image, 224)[0])
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)
