"""ImageReward v1.0: how well people think that a picture does what its prompt says."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frames import OverFrames, reduce_frames, sample_frames
from ddrl.rewards.networks.blip import BlipReward
from ddrl.rewards.networks.towers import Precision

FILE = "ImageReward.pt"
"""What the released weights are called."""

TOKENIZER = "google-bert/bert-base-uncased"
"""The tokenizer, which the released weights come without."""

MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""Of the head's output over the authors' pictures (ImageReward.py), which scores are freed of."""


class ImageReward:
    """A BLIP's judgement of a picture and its prompt, fitted to experts' rankings.

    (h - :data:`MEAN`) / :data:`STD`, with h of a linear head on the first token of a BERT that
    attends to a ViT-L's picture. Source: Xu et al. 2023, ImageReward, arXiv 2304.05977.

    Args:
        weights: the released file, or a folder or hub id that has it (``ImageReward.pt``).
        tokenizer: folder or hub id; empty: with the weights if they are a folder that has one,
            else that of bert-base-uncased.
        frames: frames that are scored of a clip.
        over_frames: from frames to the clip.
        device: empty: CUDA if there is one, else the CPU.
        precision: of the encoders' weights and of the passes.
        batch_size: pictures per pass.

    Raises:
        RewardError: transformers is not installed, or an option is wrong.
        WeightsError: the weights can't be loaded, or not all of them.
    """

    card: ClassVar[RewardCard] = RewardCard(
        rewards="pictures that experts would rank above others for the same prompt",
        range="about standard normal over the authors' pictures; unbounded",
        prompt="its first 33 word pieces; the rest is not read",
        hacks="it sees the middle square at 224 pixels: what is beside it, and fine detail, cost "
        "nothing; nor does what a long prompt says late",
        cost="one pass of a ViT-L at 224 pixels and one of a BERT per frame",
        license="Apache-2.0 (THUDM/ImageReward); of the tokenizer see its page",
        weights=f"`{FILE}` of `THUDM/ImageReward`, and the tokenizer of `{TOKENIZER}`",
        hub="THUDM/ImageReward",
        modules=("transformers", "accelerate"),
        extra="models",
    )

    def __init__(
        self,
        *,
        weights: str = "THUDM/ImageReward",
        tokenizer: str = "",
        frames: int = 4,
        over_frames: OverFrames = "mean",
        device: str = "",
        precision: Precision = "float32",
        batch_size: int = 16,
    ) -> None:
        if frames < 1 or batch_size < 1:
            raise ValueError("frames and batch_size must be at least 1")
        self.card.require("image_reward")
        beside = (Path(weights) / "tokenizer_config.json").is_file()
        self._frames, self._over_frames = frames, over_frames
        self._network = BlipReward(
            weights,
            name=FILE,
            tokenizer=tokenizer or (weights if beside else TOKENIZER),
            device=device,
            precision=precision,
            batch_size=batch_size,
        )

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,)."""
        value = self._network.score(sample_frames(media, self._frames), prompts.text)
        return reduce_frames((value - MEAN) / STD, self._over_frames)
