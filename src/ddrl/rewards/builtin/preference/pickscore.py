"""PickScore: which of two pictures a person would pick for a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frames import OverFrames, reduce_frames, sample_frames
from ddrl.rewards.networks.towers import Precision, TextImageModel

PROCESSOR = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
"""Its tokenizer and image processor, which the released weights come without."""


class PickScoreReward:
    """logit_scale * cos(prompt, picture) of a CLIP that was fitted to people's choices.

    The raw score of the paper (Kirstain et al. 2023, Pick-a-Pic), not divided by 26 as some do:
    scale it by the reward's weight.

    Args:
        weights: a folder written by ``save_pretrained``, or a hub id.
        processor: where its tokenizer and image processor are; empty: with the weights if they
            are a folder that has them, else those of LAION's CLIP-ViT-H-14.
        frames: frames that are scored of a clip.
        over_frames: from frames to the clip.
        device: empty: CUDA if there is one, else the CPU.
        precision: of the weights and of the passes.
        batch_size: texts or images per pass.

    Raises:
        RewardError: transformers is not installed, or an option is wrong.
        WeightsError: the weights can't be loaded, or not all of them.
    """

    card: ClassVar[RewardCard] = RewardCard(
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

    def __init__(
        self,
        *,
        weights: str = "yuvalkirstain/PickScore_v1",
        processor: str = "",
        frames: int = 4,
        over_frames: OverFrames = "mean",
        device: str = "",
        precision: Precision = "float32",
        batch_size: int = 16,
    ) -> None:
        if frames < 1 or batch_size < 1:
            raise ValueError("frames and batch_size must be at least 1")
        self.card.require("pickscore")
        beside = (Path(weights) / "preprocessor_config.json").is_file()
        self._frames, self._over_frames = frames, over_frames
        self._model = TextImageModel(
            weights,
            processor=processor or (weights if beside else PROCESSOR),
            device=device,
            precision=precision,
            batch_size=batch_size,
        )

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,)."""
        cosine = self._model.cosine(sample_frames(media, self._frames), prompts.text)
        return self._model.logit_scale * reduce_frames(cosine, self._over_frames)
