"""The network of the embedded video model: a transformer on patches of space and time."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddrl.models.tiny.networks import DiTBlock, time_features

# Mean and spread of the latents that the network is made for: a bright digit on black, in [-1, 1].
MEAN = -0.73
SPREAD = 0.5


class _WordEmbedding(nn.Module):
    """Time and the words of a text to one vector of ``width``; words are added, in any order."""

    def __init__(self, num_words: int, width: int) -> None:
        super().__init__()
        self.num_features = 64
        self.time = nn.Linear(self.num_features, width)
        self.words = nn.Embedding(num_words, width, padding_idx=0)
        self.out = nn.Linear(width, width)

    def forward(self, t: Tensor, words: Tensor) -> Tensor:
        text = self.words(words).sum(1) * (words != 0).sum(1, keepdim=True).clamp_min(1).rsqrt()
        hidden = self.time(time_features(t, self.num_features)) + text
        return F.silu(cast(Tensor, self.out(F.silu(hidden))))


class VideoDiT(nn.Module):
    """A diffusion transformer on clips: full attention, positions factorised in space and time.

    Frames that are given stand clean before the noisy ones, and are left out of what comes back.
    The blocks add to the best linear estimate of the velocity for data of one mean and spread, and
    see inputs of spread 1: a base learns several times faster so.
    Source: arXiv 2212.09748 for the blocks, 2206.00364 (section 5) for the estimate.

    Args:
        shape: (C, T, H, W) of a whole clip, the given frames included.
        num_words: size of the vocabulary, including the padding.
        width: width of the hidden layers.
        depth: number of blocks.
        heads: attention heads.
        patch: (frames, side in pixels) of a patch.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int, int, int],
        num_words: int,
        width: int,
        depth: int,
        heads: int,
        patch: tuple[int, int],
    ) -> None:
        super().__init__()
        channels, frames, height, columns = shape
        self.patch = patch
        places = (height // patch[1]) * (columns // patch[1])
        values = channels * patch[0] * patch[1] ** 2
        self.embedding = _WordEmbedding(num_words, width)
        self.into = nn.Linear(values, width)
        self.place = nn.Parameter(0.02 * torch.randn(1, places, width))
        self.moment = nn.Parameter(0.02 * torch.randn(frames // patch[0], 1, width))
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, values)
        for layer in (self.modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor, words: Tensor, given: Tensor | None = None) -> Tensor:
        """Shapes (B, C, T, H, W), (B,), (B, L), given (B, C, F, H, W) -> (B, C, T, H, W)."""
        at = t.reshape(-1, 1, 1, 1, 1)
        centred = x - (1 - at) * MEAN
        variance = ((1 - at) * SPREAD) ** 2 + at**2
        clip = centred * variance.rsqrt()
        if given is not None:
            clip = torch.cat([(given - MEAN) / SPREAD, clip], dim=2)
        tokens = self.into(_patches(clip, *self.patch)) + self.place + self.moment
        tokens = tokens.flatten(1, 2)
        embedding = self.embedding(t, words)
        for block in self.blocks:
            tokens = block(tokens, embedding)
        scale, shift = self.modulation(embedding).unsqueeze(1).chunk(2, dim=-1)
        out = self.out(torch.addcmul(shift, self.norm(tokens), 1 + scale))
        rest = _unpatch(out, clip.shape, *self.patch)[:, :, -x.shape[2] :]
        linear = centred * (at - (1 - at) * SPREAD**2) / variance - MEAN
        return linear + rest * SPREAD * variance.rsqrt()


def _patches(x: Tensor, moments: int, side: int) -> Tensor:
    """(B, C, T, H, W) -> (B, T / moments, places, values of a patch)."""
    batch, channels, frames, height, columns = x.shape
    parts = x.reshape(
        *(batch, channels, frames // moments, moments),
        *(height // side, side, columns // side, side),
    )
    return parts.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(2, 3)


def _unpatch(tokens: Tensor, shape: torch.Size, moments: int, side: int) -> Tensor:
    """(B, tokens, values of a patch) -> (B, C, T, H, W)."""
    batch, channels, frames, height, columns = shape
    grid = tokens.reshape(
        *(batch, frames // moments, height // side, columns // side),
        *(channels, moments, side, side),
    )
    return grid.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(shape)
