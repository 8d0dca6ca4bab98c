"""Media to pictures of a page: grids of bytes, and data URIs of bounded size."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ddrl.evaluation.measures.mixed import first_rows

MAX_TILE = 192
"""Pictures with a longer side than this, in pixels, are stored smaller, where a page has many."""
_SIDES = (512, 384, 256)  # in place of MAX_TILE, where so many pictures are few enough
_PAGE_PIXELS = 12_000_000  # of all pictures that are larger than MAX_TILE
SMALL_TILE = 64
"""Pictures of at most this side, in pixels, are scaled up without smoothing and kept lossless."""
MAX_FRAMES = 12
"""Frames of a moving picture, at most."""
MAX_MOVING_PROMPTS, MAX_MOVING_SEEDS = 12, 2
"""Clips of a model that move, at most; the others are shown by their middle frame."""
_ENLARGED = 128
_MOVING_SIDE = 128
_SECONDS = 1.6  # of a moving picture's loop
_NEAREST = Image.Resampling.NEAREST


def still_grid(media: Tensor, prompt_id: Tensor, shown: int) -> NDArray[np.uint8]:
    """Return the first samples of every prompt as pictures; of clips their middle frame.

    Args:
        media: pixels in [0, 1], shape (N, 3, H, W) or (N, T, 3, H, W).
        prompt_id: (N,) the prompt of each, from 0 to P - 1; each has at least ``shown`` samples.
        shown: samples per prompt, S.

    Returns:
        uint8 (P, S, H, W, 3).
    """
    pictures = media[first_rows(prompt_id, shown)]
    if pictures.ndim == 5:
        pictures = pictures[:, pictures.shape[1] // 2]
    pixels = _bytes(pictures).transpose(0, 2, 3, 1)
    return pixels.reshape(-1, shown, *pixels.shape[1:])


def clip_grid(media: Tensor, prompt_id: Tensor, shown: int) -> NDArray[np.uint8]:
    """Some clips of the first prompts, with evenly spread frames.

    Args:
        media: pixels in [0, 1], shape (N, T, 3, H, W).
        prompt_id: as for :func:`still_grid`.
        shown: as for :func:`still_grid`.

    Returns:
        uint8 (P', S', T', H, W, 3): at most 12 prompts, 2 samples, 12 frames.
    """
    seeds = min(shown, MAX_MOVING_SEEDS)
    rows = first_rows(prompt_id, seeds)[: MAX_MOVING_PROMPTS * seeds]
    num = min(media.shape[1], MAX_FRAMES)
    frames = torch.linspace(0, media.shape[1] - 1, num).round().long()
    pixels = _bytes(media[rows][:, frames]).transpose(0, 1, 3, 4, 2)
    return pixels.reshape(-1, seeds, *pixels.shape[1:])


def tile_side(num_pictures: int) -> int:
    """Return the longest side, in pixels, that each of a page's pictures may have.

    Thumbnails can be enlarged, so that a page with few of them stores more of each; one with many
    is no larger than `MAX_TILE` a picture makes it.
    """
    few = (side for side in _SIDES if num_pictures * side**2 <= _PAGE_PIXELS)
    return next(few, MAX_TILE)


def picture(tile: NDArray[np.uint8], *, side: int = MAX_TILE) -> str:
    """Return a (H, W, 3) picture as a data URI: PNG when small, else JPEG of at most ``side``."""
    grey = bool((tile == tile[..., :1]).all())
    image = Image.fromarray(np.ascontiguousarray(tile[..., 0] if grey else tile))
    buffer = io.BytesIO()
    if max(image.size) <= SMALL_TILE:
        kind = "png"
        _enlarged(image).save(buffer, "PNG", optimize=True)
    else:
        kind = "jpeg"
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        image.save(buffer, "JPEG", quality=88)
    return _uri(kind, buffer)


def moving_picture(clip: NDArray[np.uint8]) -> str:
    """Return a (T, H, W, 3) clip as a data URI of a GIF that loops, at most 128 pixels a side."""
    images = []
    for frame in clip:
        image = Image.fromarray(np.ascontiguousarray(frame))
        if max(image.size) <= SMALL_TILE:
            image = _enlarged(image)
        image.thumbnail((_MOVING_SIDE, _MOVING_SIDE), Image.Resampling.LANCZOS)
        images.append(image.quantize(64))
    buffer = io.BytesIO()
    duration = round(1000 * _SECONDS / len(images))
    images[0].save(
        buffer, "GIF", save_all=True, append_images=images[1:], duration=duration, loop=0
    )
    return _uri("gif", buffer)


def _bytes(pixels: Tensor) -> NDArray[np.uint8]:
    values: NDArray[np.uint8] = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return values


def _enlarged(image: Image.Image) -> Image.Image:
    # Whole multiples: a browser that fits 8 pixels into 27 makes some wider than others.
    factor = -(-_ENLARGED // max(image.size))
    return image.resize((image.width * factor, image.height * factor), _NEAREST)


def _uri(kind: str, buffer: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
