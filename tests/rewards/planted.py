"""Rewards that are found by ``module:Class``, for the tests of the registry."""

from __future__ import annotations

from torch import Tensor

from ddrl.records import Prompts

NOT_A_CLASS = 3


class Planted:
    """Its options, in every shape."""

    def __init__(self, *, weights: str, floor: float = 0.0) -> None:
        if floor > 0:
            raise ValueError("floor must not be positive")
        self.weights, self.floor = weights, floor

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        return media.flatten(1).mean(1)


class NotAReward:
    """Has nothing to score with."""
