"""Planted rewards for the audit, found as ``tests.jobs.audit_rewards:Class``, and their data.

Pictures are a coloured square on the left of a dim page, and a little noise; the prompt names the
colour.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.base import SampleError
from ddrl.rewards.card import RewardCard

COLOURS = {
    "red": (0.8, 0.3, 0.3),
    "green": (0.3, 0.7, 0.3),
    "blue": (0.3, 0.3, 0.8),
    "yellow": (0.7, 0.7, 0.3),
}


def ideal(colour: str) -> Tensor:
    """The picture without noise, shape (3, 16, 16)."""
    picture = torch.full((3, 16, 16), 0.25)
    picture[:, 4:12, 2:9] = torch.tensor(COLOURS[colour])[:, None, None]
    return picture


def write_pictures(folder: Path, num: int = 48) -> Path:
    """Captioned files, as many of each colour."""
    rng = torch.Generator().manual_seed(0)
    folder.mkdir()
    for place in range(num):
        colour = list(COLOURS)[place % len(COLOURS)]
        spread = 0.01 + 0.02 * torch.rand(1, generator=rng)
        pixels = ideal(colour) + spread * torch.randn(3, 16, 16, generator=rng)
        levels = (255 * pixels).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(levels).save(folder / f"{place:02d}.png")
        (folder / f"{place:02d}.txt").write_text(f"a {colour} square")
    return folder


def _distance(media: Tensor, colour: str) -> Tensor:
    return (media - ideal(colour)).square().flatten(1).mean(1).sqrt()


class WellBehaved:
    """How near a picture is to what the prompt asks for."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        every = torch.stack([_distance(media, colour) for colour in COLOURS], 1)
        asked = [list(COLOURS).index(text.split()[1]) for text in prompts.text]
        return -every[torch.arange(len(media)), torch.tensor(asked)]


class Constant:
    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        return torch.full((len(media),), 0.7)


class PromptDeaf:
    """How near it is to any of the pictures."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        return -torch.stack([_distance(media, colour) for colour in COLOURS], 1).amin(1)


class DeclaredDeaf(PromptDeaf):
    card = RewardCard(rewards="squares", range="at most 0", prompt="none", hacks="", cost="nothing")


class PromptOnly:
    """Long prompts."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        return torch.tensor([float(len(text)) for text in prompts.text])


class Inverted(WellBehaved):
    """As far from the prompt as can be."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        return -super().score(media, prompts)


class Saturated(WellBehaved):
    """Fit to the prompt, and more so colour."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        colour = (media.amax(1) - media.amin(1)).flatten(1).mean(1)
        return super().score(media, prompts) + 2 * colour


class Dull(WellBehaved):
    """Fit to the prompt, and more so the lack of colour."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        colour = (media.amax(1) - media.amin(1)).flatten(1).mean(1)
        return super().score(media, prompts) - 2 * colour


class Bright(WellBehaved):
    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        return super().score(media, prompts) + 2 * media.flatten(1).mean(1)


class Smooth(WellBehaved):
    """Fit to the prompt, and more so a picture without edges."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        edges = media.diff(dim=-1).abs().flatten(1).mean(1)
        return super().score(media, prompts) - 20 * edges


class Noisy(WellBehaved):
    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        edges = media.diff(dim=-1).abs().flatten(1).mean(1)
        return super().score(media, prompts) + 20 * edges


class Random:
    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        return torch.rand(len(media), generator=_RNG)


_RNG = torch.Generator().manual_seed(3)


class Ranks(WellBehaved):
    """A sample's score depends on its place in the batch."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        return super().score(media, prompts) + 0.001 * torch.arange(len(media))


class Centred(WellBehaved):
    """A sample's score depends on the batch that it is in."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        value = super().score(media, prompts)
        return value - value.mean()


class Choosy(WellBehaved):
    """Has no score for blue, and none for pictures without a colour."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        value = super().score(media, prompts)
        causes = {i: "blue is not known" for i, text in enumerate(prompts.text) if "blue" in text}
        spread = (media.amax(1) - media.amin(1)).flatten(1).amax(1)
        value[spread < 0.02] = torch.nan
        if causes:
            raise SampleError(value, causes)
        return value


class Still:
    """Clips: nearness of the first frame to red, and nothing of motion."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        return -_distance(media[:, 0], "red")
