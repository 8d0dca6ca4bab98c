"""Squares that CLIP's kind of vision tower takes, made as the authors of a reward made them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ddrl.rewards.frames import as_levels
from ddrl.rewards.networks.towers import resize_levels

# The mean and standard deviation of OpenAI's CLIP, which BLIP and Qwen2-VL took over.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def cropped_square(images: Tensor, size: int) -> Tensor:
    """Cut out the middle, after a bicubic resize of the shorter side: ``clip.load``'s transform.

    From it by at most 2 of 255 levels, see :func:`ddrl.rewards.networks.towers.preprocess`. The
    crop of transformers' processors can be off by a pixel from this one, which is torchvision's.

    Args:
        images: pixels in [0, 1], shape (N, 3, H, W).
        size: side of the square.

    Returns:
        Shape (N, 3, size, size), float32, normalized.
    """
    levels = as_levels(images)
    height, width = levels.shape[-2:]
    short = min(height, width)
    rows, columns = int(size * height / short), int(size * width / short)
    levels = resize_levels(levels, (rows, columns), "bicubic")
    top, left = round((rows - size) / 2), round((columns - size) / 2)
    return normalized(levels[..., top : top + size, left : left + size] / 255)


def padded_square(images: Tensor, size: int) -> Tensor:
    """Resize the longer side to ``size`` and fill the rest of the square with black bars.

    Source: ``ResizeMaxSize`` in HPSv2's copy of open_clip, which resizes tensors, so that nothing
    is rounded or clamped. Departs: a picture whose longer side has the right length already is
    padded, too; there it is not, and can't be scored.

    Args:
        images: pixels in [0, 1], shape (N, 3, H, W).
        size: side of the square.

    Returns:
        Shape (N, 3, size, size), float32, normalized.
    """
    pixels = as_levels(images) / 255
    scale = size / max(pixels.shape[-2:])
    rows, columns = (max(1, round(side * scale)) for side in pixels.shape[-2:])
    if scale != 1:
        pixels = F.interpolate(pixels, (rows, columns), mode="bicubic", antialias=True)
    below, right = size - rows, size - columns
    bars = (right // 2, right - right // 2, below // 2, below - below // 2)
    return normalized(F.pad(pixels, bars))


def normalized(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1], shape (..., 3, H, W), less CLIP's mean and over its standard deviation."""
    mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (MEAN, STD))
    return (pixels - mean) / std
