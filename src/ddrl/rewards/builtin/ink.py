"""Mean brightness: a reward that is easily gamed, for tests and demonstrations of hacking."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard


class Ink:
    """The mean pixel value, in [0, 1]. It ignores the prompt; an all-white image is best.

    Args:
        scale: multiplies the mean.
    """

    card: ClassVar[RewardCard] = RewardCard(
        rewards="bright pictures",
        range="[0, 1] times `scale`",
        prompt="none",
        hacks="a white picture is best. Made for tests and to show what hacking looks like",
        cost="nothing",
    )

    def __init__(self, *, scale: float = 1.0) -> None:
        self._scale = scale

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:  # noqa: ARG002
        """Shape (B, ...) -> (B,)."""
        return self._scale * media.flatten(1).mean(1)
