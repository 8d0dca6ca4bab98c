"""Latents (B, C, H, W) as tokens of 2x2 pixels, and where the tokens stand."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["grid_positions", "pack", "unpack"]


def pack(latents: Tensor) -> Tensor:
    """Latents (B, C, H, W) to tokens (B, H W / 4, 4 C); the place in the 2x2 varies fastest."""
    return F.pixel_unshuffle(latents, 2).flatten(2).mT


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of :func:`pack`, for latents of this height and width."""
    size = (height // 2, width // 2)
    return F.pixel_shuffle(tokens.mT.reshape(len(tokens), tokens.shape[2], *size), 2)


def grid_positions(height: int, width: int, *, device: torch.device) -> Tensor:
    """Row and column of height x width tokens, row by row, shape (height width, 2)."""
    rows, columns = (torch.arange(n, device=device) for n in (height, width))
    return torch.cartesian_prod(rows, columns)
