"""The network of the embedded text-to-image model: letters and patches in one transformer."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddrl.models.tiny.networks import DiTBlock, time_features

SPREAD = 0.5  # of latents in [-1, 1], before any were measured
LEAST = 1e-4  # variance along a principal axis: rounding is not to be learned
LETTER = 16  # from letter to letter in pixels

# How the mean given a text is fitted.
FIT_STEPS = 800
FIT_BATCH = 64
FIT_RATE = 2e-3


class _ConvBlock(nn.Module):
    """Two convolutions with a shortcut around them, modulated by an embedding."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(4, channels) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.film = nn.Linear(width, 2 * channels)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.convs[0](F.silu(self.norms[0](x)))
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        hidden = torch.addcmul(shift, self.norms[1](hidden), 1 + scale)
        return x + cast(Tensor, self.convs[1](F.silu(hidden)))


class TextDiT(nn.Module):
    """A diffusion transformer in which letters attend together with patches.

    Patches are made and drawn by convolutions, as an hourglass. The network adds to the best linear
    estimate of the velocity for data of one covariance about a mean that depends on the text, both
    of which :meth:`measure` takes from data; every column of patches is told which letters stand
    over it, as they do in the middle of the picture at even distances. With these, the letters that
    are asked for come within hundreds of steps.
    Source: arXiv 2212.09748 for the blocks, 2401.11605 for the hourglass, 2403.03206 for text
    among the patches, 2206.00364 (section 5) for the estimate.

    Args:
        shape: (C, H, W) of an image.
        num_tokens: size of the vocabulary, including the padding.
        num_letters: number of tokens after the padding that are letters.
        length: tokens of a text.
        width: width of the transformer; a multiple of 16.
        depth: number of transformer blocks.
        heads: attention heads.
        patch: side of a patch in pixels, a multiple of 4.
    """

    axes: Tensor
    place_axes: Tensor
    variance: Tensor

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        num_tokens: int,
        num_letters: int,
        length: int,
        width: int,
        depth: int,
        heads: int,
        patch: int,
    ) -> None:
        super().__init__()
        channels, height, columns = shape
        self.patch, self.num_letters, self.num_features = patch, num_letters, 64
        self.grid = (height // patch, columns // patch)
        places, values = self.grid[0] * self.grid[1], channels * patch**2
        self.register_buffer("axes", torch.eye(values))
        self.register_buffer("place_axes", torch.eye(places).repeat(values, 1, 1))
        self.register_buffer("variance", torch.full((values, 1, places), SPREAD**2))
        self.time = nn.Linear(self.num_features, width)
        self.pooled = nn.Linear(width, width)
        self.join = nn.Linear(width, width)
        self.tokens = nn.Embedding(num_tokens, width)
        self.order = nn.Parameter(torch.randn(length, width))
        self.over = nn.Linear(2 * width, width)
        # Measured, and not trained: what is trained adds to it.
        self.known = nn.Embedding(num_tokens, width)
        self.mean = nn.Sequential(
            *(nn.Linear(3 * width, 2 * width), nn.SiLU()),
            *(nn.Linear(2 * width, 2 * width), nn.SiLU()),
            nn.Linear(2 * width, self.grid[0] * values),
        )
        self.known.requires_grad_(False)
        self.mean.requires_grad_(False)
        self.row = nn.Parameter(0.5 * torch.randn(self.grid[0], 1, width))
        self.column = nn.Parameter(0.5 * torch.randn(1, self.grid[1], width))
        fine, coarse, side = width // 4, width // 2, patch // 4
        self.stem = nn.Conv2d(8 * channels, fine, 3, padding=1)
        self.down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.into = nn.Conv2d(coarse, width, 3, stride=side, padding=1)
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out_of = nn.Linear(width, coarse * side**2)
        self.up = nn.Conv2d(coarse, 4 * fine, 1)
        self.fine = nn.ModuleList(_ConvBlock(fine, width) for _ in range(2))
        self.coarse = nn.ModuleList(_ConvBlock(coarse, width) for _ in range(2))
        self.last = nn.GroupNorm(4, fine)
        self.out = nn.Conv2d(fine, 4 * channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(cast(Tensor, self.out.bias))

    def measure(self, latents: Tensor, text: Tensor, *, seed: int) -> None:
        """Take the mean given the text, and the covariance about it, from data.

        The covariance is that of a patch's principal components over all places, each component
        by itself: a background of one colour is then one number.

        Args:
            latents: N images, (N, C, H, W).
            text: their tokens, (N, L).
            seed: of the batches that the mean is fitted on.
        """
        rng = torch.Generator().manual_seed(seed)
        parameters = [*self.mean.parameters(), *self.known.parameters()]
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(parameters, lr=FIT_RATE, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, FIT_STEPS)
        for _ in range(FIT_STEPS):
            rows = torch.randint(len(latents), (FIT_BATCH,), generator=rng)
            error = self._patches(latents[rows]) - self._mean(text[rows])
            optimizer.zero_grad()
            torch.autograd.backward(error.square().mean())
            optimizer.step()
            schedule.step()
        for parameter in parameters:
            parameter.requires_grad_(False)
        with torch.no_grad():
            rest = self._patches(latents) - self._mean(text)
            flat = rest.flatten(0, 1).double()
            self.axes.copy_(torch.linalg.eigh(flat.T @ flat / len(flat))[1])
            along = (rest @ self.axes).permute(2, 0, 1)
            variance, axes = torch.linalg.eigh(along.mT @ along / len(rest))
            self.place_axes.copy_(axes)
            self.variance.copy_(variance.clamp_min(LEAST)[:, None])

    def forward(self, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Shapes (B, C, H, W), (B,), (B, L) -> (B, C, H, W)."""
        expected, velocity = self._linear(x, t, self._mean(text))
        at = t[:, None, None, None]
        scale = (((1 - at) * SPREAD) ** 2 + at**2).rsqrt()
        seen = F.pixel_unshuffle(torch.cat([x * scale, expected / SPREAD], dim=1), 2)
        # Convolutions are faster so on a CPU.
        seen = seen.contiguous(memory_format=torch.channels_last)
        letters = self.tokens(text)
        hidden = self.time(time_features(t, self.num_features)) + self.pooled(letters.mean(1))
        embedding = F.silu(cast(Tensor, self.join(F.silu(hidden))))
        fine = self.fine[0](self.stem(seen), embedding)
        coarse = self.coarse[0](self.down(fine), embedding)
        image = self.into(coarse).flatten(2).transpose(1, 2)
        places = (self.row + self.column) + self.over(self._over(text, letters))[:, None]
        image = image + places.flatten(1, 2)
        tokens = torch.cat([letters + self.order, image], dim=1)
        for block in self.blocks:
            tokens = block(tokens, embedding)
        drawn = self.out_of(self.norm(tokens[:, text.shape[1] :]))
        drawn = drawn.transpose(1, 2).reshape(len(x), -1, *self.grid)
        coarse = self.coarse[1](coarse + F.pixel_shuffle(drawn, self.patch // 4), embedding)
        fine = self.fine[1](fine + F.pixel_shuffle(self.up(coarse), 2), embedding)
        rest = F.pixel_shuffle(self.out(F.silu(self.last(fine))), 2)
        return velocity + rest * (SPREAD * scale)

    def _linear(self, x: Tensor, t: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """The best linear estimates of the data, and of the velocity."""
        at = t[None, :, None]
        centred = (self._patches(x) - (1 - t[:, None, None]) * mean) @ self.axes
        along = centred.permute(2, 0, 1) @ self.place_axes  # (values, B, places)
        variance = (1 - at) ** 2 * self.variance + at**2
        data = along * ((1 - at) * self.variance / variance)
        data = (data @ self.place_axes.mT).permute(1, 2, 0) @ self.axes.T + mean
        noise = along * (at / variance)
        noise = (noise @ self.place_axes.mT).permute(1, 2, 0) @ self.axes.T
        return self._image(data), self._image(noise - data)

    def _over(self, text: Tensor, letters: Tensor) -> Tensor:
        """Embed the letters over each column of patches, with distances: (B, columns, 2 width)."""
        is_letter = (text > 0) & (text <= self.num_letters)
        number = is_letter.cumsum(1) - 0.5 - 0.5 * is_letter.sum(1, keepdim=True)
        columns = torch.arange(self.grid[1], device=text.device) + 0.5 - self.grid[1] / 2
        away = columns[:, None] * (self.patch / LETTER) - number[:, None]  # in letters
        weight = F.relu(1 - away.abs()) * is_letter[:, None]
        return torch.cat([weight @ letters, (weight * away) @ letters], dim=2)

    def _mean(self, text: Tensor) -> Tensor:
        """The mean of patches given the text: (B, places, values of a patch)."""
        letters = self.known(text)
        over = self._over(text, letters)
        whole = letters.mean(1, keepdim=True).expand(-1, over.shape[1], -1)
        columns = cast(Tensor, self.mean(torch.cat([over, whole], dim=2)))
        rows = columns.reshape(*columns.shape[:2], self.grid[0], -1)
        return rows.transpose(1, 2).flatten(1, 2)

    def _patches(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, places, values of a patch)."""
        return F.pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)

    def _image(self, patches: Tensor) -> Tensor:
        """(B, places, values of a patch) -> (B, C, H, W)."""
        grid = patches.transpose(1, 2).reshape(len(patches), -1, *self.grid)
        return F.pixel_shuffle(grid, self.patch)
