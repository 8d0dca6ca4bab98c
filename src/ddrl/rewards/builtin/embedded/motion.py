"""Whether what a clip shows moves as asked: the path of its brightness."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.builtin.embedded.prompt_words import asked_word
from ddrl.rewards.card import RewardCard

STEPS: dict[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}
"""Direction word to a step in (x, y); y grows downwards."""


BLACK = 0.01


class Motion:
    """exp(-e / s): e is how far the brightness moves otherwise than asked, from frame to frame.

    With c_t the centre of brightness of frame t and v the asked velocity, both in pixels,
    e = mean_t |c_{t+1} - c_t - v| and s is the slow speed. The right motion has 1; a still clip has
    exp(-1) = .37 where slow motion is asked, and exp(-2) = .14 where fast motion is and the fast
    speed is twice the slow one. A clip with a black frame (mean brightness below .01) has 0.

    Args:
        slowly: pixels per frame of a prompt with the word "slowly".
        quickly: of one with the word "quickly". With the embedded moving digits both may be left
            out; they are then those of the data.
    """

    card: ClassVar[RewardCard] = RewardCard(
        rewards="clips whose centre of brightness moves as the prompt says",
        range="0 to 1; still clips have .37 where slow motion is asked, less where fast",
        prompt="it has one of the words left, right, up, down, and one of slowly, quickly",
        hacks="brightness that shifts without anything that moves; it does not look at what moves",
        cost="nothing",
        media=("clips",),
    )

    def __init__(self, *, slowly: float, quickly: float) -> None:
        if not 0 < slowly < quickly:
            raise ValueError("0 < slowly < quickly is needed")
        self._speeds = {"slowly": slowly, "quickly": quickly}

    @torch.no_grad()
    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, T, 3, H, W) -> (B,)."""
        if media.ndim != 5 or media.shape[1] < 2:
            raise RewardError(
                f"Motion is scored of clips (B, T, 3, H, W), not of shape {tuple(media.shape)}.",
                hint="give clips of at least two frames",
            )
        grey = media.float().mean(2)
        ink = grey.sum((2, 3))
        down, across = (torch.arange(n).to(grey) for n in grey.shape[2:])
        x, y = torch.einsum("bthw,w->bt", grey, across), torch.einsum("bthw,h->bt", grey, down)
        centre = torch.stack([x, y], dim=-1) / ink.clamp_min(1e-6)[..., None]
        asked = asked_velocity(prompts, self._speeds).to(grey)
        error = (centre.diff(dim=1) - asked[:, None]).norm(dim=2).mean(1)
        value = (-error / self._speeds["slowly"]).exp()
        return torch.where((grey.mean((2, 3)) < BLACK).any(1), 0.0, value)  # NaN stays NaN


def asked_velocity(prompts: Prompts, speeds: dict[str, float]) -> Tensor:
    """Return the pixels per frame in (x, y) that every prompt asks for, shape (B, 2).

    Raises:
        RewardError: a prompt does not say a direction and a speed.
    """
    rows = []
    for text in prompts.text:
        step = STEPS[asked_word(text, STEPS, "the direction")]
        speed = speeds[asked_word(text, speeds, "the speed")]
        rows.append([speed * part for part in step])
    return torch.tensor(rows)
