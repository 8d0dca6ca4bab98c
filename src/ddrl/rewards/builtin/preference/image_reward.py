"""ImageReward v1.0: how well people think that a picture does what its prompt says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frame_reward import FrameReward
from ddrl.rewards.frames import Runtime
from ddrl.rewards.networks.blip import BlipReward

FILE = "ImageReward.pt"
"""What the released weights are called."""

TOKENIZER = "google-bert/bert-base-uncased"
"""The tokenizer, which the released weights come without."""

MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""Of the head's output over the authors' pictures (ImageReward.py), which scores are freed of."""


@dataclass(kw_only=True, eq=False)
class ImageReward(FrameReward):
    """A BLIP's judgement of a picture and its prompt, fitted to experts' rankings.

    (h - :data:`MEAN`) / :data:`STD`, with h of a linear head on the first token of a BERT that
    attends to a ViT-L's picture. Source: Xu et al. 2023, ImageReward, arXiv 2304.05977.

    Args:
        weights: the released file, or a folder or hub id that has it (``ImageReward.pt``).
        tokenizer: folder or hub id; empty: with the weights if they are a folder that has one,
            else that of bert-base-uncased.
    """

    name = "image_reward"
    card = RewardCard(
        rewards="pictures that experts would rank above others for the same prompt",
        range="about standard normal over the authors' pictures; unbounded",
        prompt="its first 33 word pieces; the rest is not read",
        hacks="it sees the middle square at 224 pixels: what lies outside, and fine detail, cost "
        "nothing; nor does what a long prompt says late",
        cost="one pass of a ViT-L at 224 pixels and one of a BERT per frame",
        license="Apache-2.0 (THUDM/ImageReward); of the tokenizer see its page",
        weights=f"`{FILE}` of `THUDM/ImageReward`, and the tokenizer of `{TOKENIZER}`",
        hub="THUDM/ImageReward",
        modules=("transformers", "accelerate"),
        extra="models",
    )

    weights: str = "THUDM/ImageReward"
    tokenizer: str = ""

    def load(self, runtime: Runtime) -> None:
        """Read the BLIP and its head."""
        is_there = (Path(self.weights) / "tokenizer_config.json").is_file()
        tokenizer = self.tokenizer or (self.weights if is_there else TOKENIZER)
        self._network = BlipReward(self.weights, runtime, name=FILE, tokenizer=tokenizer)

    def score_frames(self, frames: Tensor, prompts: Prompts) -> Tensor:
        """Pixels in [0, 1], shape (B, F, 3, H, W), and B prompts -> (B, F), on the CPU."""
        return (self._network.score(frames, prompts.text) - MEAN) / STD
