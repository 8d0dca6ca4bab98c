"""PickScore: which of two pictures a person would pick for a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frame_reward import FrameReward
from ddrl.rewards.frames import Runtime
from ddrl.rewards.networks.towers import TextImageModel

PROCESSOR = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
"""Its tokenizer and image processor, which the released weights come without."""


@dataclass(kw_only=True, eq=False)
class PickScoreReward(FrameReward):
    """logit_scale * cos(prompt, picture) of a CLIP that was fitted to people's choices.

    The raw score of the paper (Kirstain et al. 2023, Pick-a-Pic), not divided by 26 as some do:
    scale it by the reward's weight.

    Args:
        weights: a folder written by ``save_pretrained``, or a hub id.
        processor: where its tokenizer and image processor are; empty: with the weights if they
            are a folder that has them, else those of LAION's CLIP-ViT-H-14.
    """

    name = "pickscore"
    card = RewardCard(
        rewards="pictures that people would pick over another one for the same prompt",
        range="the factor `logit_scale` of the weights times a cosine. A difference of 1 between "
        "two pictures means odds of e to 1 for the better one; compare it within a prompt only",
        prompt="all of it, up to 77 tokens",
        hacks="reported: saturated, glossy pictures with one centred subject, whatever style the "
        "prompt asks for; written text and counts go unnoticed",
        cost="one pass of a ViT-H at 224 pixels per frame and one of its text tower per prompt",
        license="see the pages of the two models",
        weights=f"`yuvalkirstain/PickScore_v1`, and tokenizer and image processor of `{PROCESSOR}`",
        hub="yuvalkirstain/PickScore_v1",
        modules=("transformers",),
        extra="models",
    )

    weights: str = "yuvalkirstain/PickScore_v1"
    processor: str = ""

    def load(self, runtime: Runtime) -> None:
        """Read the CLIP."""
        is_there = (Path(self.weights) / "preprocessor_config.json").is_file()
        processor = self.processor or (self.weights if is_there else PROCESSOR)
        self._model = TextImageModel(self.weights, runtime, processor=processor)

    def score_frames(self, frames: Tensor, prompts: Prompts) -> Tensor:
        """Pixels in [0, 1], shape (B, F, 3, H, W), and B prompts -> (B, F), on the CPU."""
        return self._model.cosine(frames, prompts.text)

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,)."""
        return self._model.logit_scale * super().score(media, prompts)
