"""What rewards share that score pictures one by one: their options, and frames of a clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frames import OverFrames, Precision, Runtime, reduce_frames, sample_frames


@dataclass(kw_only=True, eq=False)
class FrameReward(ABC):
    """Scores the frames of a sample with a network and reduces their values to one.

    A subclass is a dataclass too: its fields are further options. It sets ``name`` and ``card``,
    reads its weights in :meth:`load` and scores in :meth:`score_frames`.

    Args:
        frames: how many frames of a clip are scored.
        over_frames: how the values of frames become the value of the clip.
        device: where the network runs; empty: on CUDA if there is one, else on the CPU.
        precision: type of the weights and of the passes.
        batch_size: texts or pictures per pass.

    Raises:
        RewardError: a package is not installed, or an option is wrong.
        WeightsError: the weights can't be loaded, or not all of them.
    """

    name: ClassVar[str]
    card: ClassVar[RewardCard]

    frames: int = 4
    over_frames: OverFrames = "mean"
    device: str = ""
    precision: Precision = "float32"
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.frames < 1 or self.batch_size < 1:
            raise ValueError("frames and batch_size must be at least 1")
        self.card.require(self.name)
        self.load(Runtime.of(self.device, self.precision, self.batch_size))

    @abstractmethod
    def load(self, runtime: Runtime) -> None:
        """Read the weights."""

    @abstractmethod
    def score_frames(self, frames: Tensor, prompts: Prompts) -> Tensor:
        """Pixels in [0, 1], shape (B, F, 3, H, W), and B prompts -> (B, F), on the CPU."""

    @torch.no_grad()
    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,)."""
        value = self.score_frames(sample_frames(media, self.frames), prompts)
        return reduce_frames(value, self.over_frames)
