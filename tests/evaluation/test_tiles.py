from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from ddrl.evaluation.pages.tiles import (
    MAX_TILE,
    clip_grid,
    moving_picture,
    picture,
    still_grid,
    tile_side,
)

PROMPT_ID = torch.tensor([1, 0, 0, 1, 1])


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_stills_are_the_first_samples_of_each_prompt() -> None:
    media = (torch.arange(5.0) / 10)[:, None, None, None].expand(5, 3, 2, 4)
    grid = still_grid(media, PROMPT_ID, 2)
    assert grid.shape == (2, 2, 2, 4, 3)
    assert grid.dtype == np.uint8
    assert grid[:, :, 0, 0, 0].tolist() == [[26, 51], [0, 76]]


def test_a_clip_is_shown_by_its_middle_frame() -> None:
    clips = (torch.arange(3.0) / 3)[None, :, None, None, None].expand(5, 3, 3, 2, 2)
    assert still_grid(clips, PROMPT_ID, 1)[0, 0, 0, 0].tolist() == [85, 85, 85]


def test_frames_are_spread_evenly_and_bounded() -> None:
    clips = (torch.arange(81.0) / 255)[None, :, None, None, None].expand(5, 81, 3, 2, 2)
    grid = clip_grid(clips, PROMPT_ID, 8)
    assert grid.shape == (2, 2, 12, 2, 2, 3)
    assert grid[0, 0, [0, -1], 0, 0, 0].tolist() == [0, 80]
    assert clip_grid(clips[:, :3], PROMPT_ID, 1).shape == (2, 1, 3, 2, 2, 3)


@pytest.mark.parametrize(
    ("shape", "kind", "size"),
    [((8, 8), "PNG", (128, 128)), ((65, 20), "JPEG", (20, 65)), ((400, 800), "JPEG", (192, 96))],
)
def test_pictures_are_of_bounded_size(
    shape: tuple[int, int], kind: str, size: tuple[int, int]
) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = opened(picture(tile))
    assert image.format == kind
    assert image.size == size


def test_few_pictures_are_stored_larger_and_many_as_small_as_ever() -> None:
    sides = [tile_side(num) for num in (1, 45, 46, 81, 82, 183, 184, 10_000)]
    assert sides == [512, 512, 384, 384, 256, 256, MAX_TILE, MAX_TILE]
    tile = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    assert opened(picture(tile, side=512)).size == (512, 384)


def test_a_large_clip_becomes_a_small_gif() -> None:
    clip = np.random.default_rng(0).integers(0, 256, (12, 480, 832, 3), dtype=np.uint8)
    uri = moving_picture(clip)
    image = opened(uri)
    assert image.format == "GIF"
    assert image.size == (128, 74)
    assert getattr(image, "n_frames", 1) == 12
    assert len(uri) < 200_000
