"""Whether a clip shows the asked digit, frame by frame."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.builtin.embedded.classifier import Classifier
from ddrl.rewards.builtin.embedded.prompt_words import asked_word
from ddrl.rewards.card import RewardCard


class DigitIdentity:
    """log p(digit | frame) by a classifier, the mean over a clip's frames; at most 0.

    Args:
        weights: a folder written by :meth:`Classifier.save`, whose classes are words of the
            prompts. With the embedded moving digits it may be left out; a classifier is then
            trained on frames of the reward split and cached.
        floor: log-probabilities of frames below it are raised to it.
    """

    card: ClassVar[RewardCard] = RewardCard(
        rewards="clips whose every frame a small network takes for the digit in the prompt",
        range="log-probability, from `floor` to 0",
        prompt="it holds the name of one class, such as `three` in `a three moving left slowly`",
        hacks="frames that only this network takes for the digit; nothing asks that they show the "
        "same digit, or that it moves",
        cost="a pass of a small network per frame",
        media=("clips",),
        license="your own training",
        weights="option `weights`; with the embedded moving digits a network is trained and cached",
    )

    def __init__(self, *, weights: str, floor: float = -20.0) -> None:
        self._classifier = Classifier.load(Path(weights))
        self._floor = floor

    @torch.no_grad()
    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, T, 3, H, W) -> (B,)."""
        if media.ndim != 5 or media.shape[2:] != (3, *self._classifier.size):
            raise RewardError(
                f"The classifier takes clips of frames {(3, *self._classifier.size)}, not media of "
                f"shape {tuple(media.shape)}.",
                hint="it was trained on frames of that size",
            )
        self._classifier.to(media.device)
        names = self._classifier.labels
        asked = [names.index(asked_word(text, names, "the digit")) for text in prompts.text]
        log_prob = self._classifier.log_prob(media.float().flatten(0, 1))
        frames = log_prob.reshape(*media.shape[:2], len(names))
        index = torch.tensor(asked, device=media.device)[:, None, None]
        return frames.take_along_dim(index, dim=2).squeeze(2).clamp_min(self._floor).mean(1)
