"""Layouts: pixels as a VAE has them, and latents (B, C, H, W) as tokens of 2x2 pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def to_vae(media: Tensor, *, is_video: bool) -> Tensor:
    """Media as their VAE takes them: (B, 3, H, W), or (B, 3, T, H, W) with the channels first.

    Args:
        media: pictures (B, 3, H, W) or clips (B, T, 3, H, W).
        is_video: whether the VAE is one of clips; to it a picture is a clip of one frame.
    """
    clips = media[:, None] if is_video and media.ndim == 4 else media
    return clips.transpose(1, 2) if clips.ndim == 5 else clips


def from_vae(pixels: Tensor) -> Tensor:
    """The inverse of :func:`to_vae`; a clip of one frame is a picture."""
    if pixels.ndim == 4:
        return pixels
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels.transpose(1, 2)


def pack(latents: Tensor) -> Tensor:
    """Latents (B, C, H, W) to tokens (B, H W / 4, 4 C); the place in the 2x2 varies fastest."""
    return F.pixel_unshuffle(latents, 2).flatten(2).mT


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of :func:`pack`, for latents of this height and width."""
    size = (height // 2, width // 2)
    return F.pixel_shuffle(tokens.mT.reshape(len(tokens), tokens.shape[2], *size), 2)


def nearest_multiple(size: int, multiple: int) -> int:
    """The multiple that is nearest to a size, and not 0."""
    return multiple * max(1, round(size / multiple))


def grid_positions(height: int, width: int, *, device: torch.device) -> Tensor:
    """Row and column of height x width tokens, row by row, shape (height width, 2)."""
    rows, columns = (torch.arange(n, device=device) for n in (height, width))
    return torch.cartesian_prod(rows, columns)
