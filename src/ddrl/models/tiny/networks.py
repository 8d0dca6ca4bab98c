"""The networks of the embedded model: small enough for a CPU, complete enough to be real."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def time_features(t: Tensor, num_features: int, *, max_frequency: float = 200.0) -> Tensor:
    """Sines and cosines of ``t`` in [0, 1] at log-spaced frequencies: (B,) -> (B, features)."""
    exponents = torch.linspace(0, math.log(max_frequency), num_features // 2, device=t.device)
    angles = t[:, None] * exponents.exp()
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class _Embedding(nn.Module):
    """Time and label to one vector of ``width``."""

    def __init__(self, num_labels: int, width: int) -> None:
        super().__init__()
        self.num_features = 64
        self.time = nn.Linear(self.num_features, width)
        self.label = nn.Embedding(num_labels, width)
        self.out = nn.Linear(width, width)

    def forward(self, t: Tensor, label: Tensor) -> Tensor:
        hidden = self.time(time_features(t, self.num_features)) + self.label(label)
        return F.silu(cast(Tensor, self.out(F.silu(hidden))))


class FiLMNet(nn.Module):
    """A residual MLP on flat pixels, modulated by time and label in every block."""

    def __init__(self, *, num_pixels: int, num_labels: int, width: int, depth: int) -> None:
        super().__init__()
        # Time and label are little to know: a narrow embedding halves the cost of a pass.
        narrow = max(16, width // 4)
        self.embedding = _Embedding(num_labels, narrow)
        self.into = nn.Linear(num_pixels, width)
        self.film = nn.Linear(narrow, 2 * width * depth)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.out = nn.Linear(width, num_pixels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Shapes (B, C, H, W), (B,), (B,) -> (B, C, H, W)."""
        hidden = self.into(x.flatten(1))
        film = self.film(self.embedding(t, label)).chunk(2 * len(self.blocks), dim=1)
        for index, block in enumerate(self.blocks):
            scale, shift = film[2 * index], film[2 * index + 1]
            hidden = hidden + block(F.silu(torch.addcmul(shift, self.norm(hidden), 1 + scale)))
        return cast(Tensor, self.out(F.silu(self.norm(hidden)))).reshape(x.shape)


class DiTBlock(nn.Module):
    """Attention and an MLP, each normalised and gated as the embedding says."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, 6 * width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width)
        )
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        """Shapes (B, L, W), (B, W) -> (B, L, W)."""
        scale1, shift1, gate1, scale2, shift2, gate2 = (
            self.modulation(embedding).unsqueeze(1).chunk(6, dim=-1)
        )
        batch, length, width = tokens.shape
        normed = torch.addcmul(shift1, self.norm(tokens), 1 + scale1)
        qkv = self.qkv(normed).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = torch.addcmul(tokens, gate1, self.project(attended))
        normed = torch.addcmul(shift2, self.norm(tokens), 1 + scale2)
        return torch.addcmul(tokens, gate2, self.mlp(normed))


class DiT(nn.Module):
    """A diffusion transformer with adaptive layer norm. Source: arXiv 2212.09748."""

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        num_labels: int,
        width: int,
        depth: int,
        heads: int,
        patch: int,
    ) -> None:
        super().__init__()
        channels, height, columns = shape
        self.patch = patch
        self.embedding = _Embedding(num_labels, width)
        self.into = nn.Linear(channels * patch**2, width)
        num_tokens = (height // patch) * (columns // patch)
        self.position = nn.Parameter(0.02 * torch.randn(num_tokens, width))
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, channels * patch**2)
        for layer in (self.modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Shapes (B, C, H, W), (B,), (B,) -> (B, C, H, W)."""
        size = (x.shape[2], x.shape[3])
        patches = F.pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)
        tokens = self.into(patches) + self.position
        embedding = self.embedding(t, label)
        for block in self.blocks:
            tokens = block(tokens, embedding)
        scale, shift = self.modulation(embedding).unsqueeze(1).chunk(2, dim=-1)
        out = self.out(torch.addcmul(shift, self.norm(tokens), 1 + scale)).transpose(1, 2)
        grid = out.unflatten(2, (size[0] // self.patch, size[1] // self.patch))
        return F.pixel_shuffle(grid, self.patch)
