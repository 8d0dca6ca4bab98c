"""HPS v2.1: which of several pictures people prefer for a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frames import OverFrames, reduce_frames, sample_frames
from ddrl.rewards.networks.openclip import PaddedClip
from ddrl.rewards.networks.towers import Precision

FILE = "HPS_v2.1_compressed.pt"
"""What the released weights are called."""

TOKENIZER = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
"""The same tokenizer as open_clip's, which the released weights come without."""


class HpsReward:
    """cos(prompt, picture) of a CLIP ViT-H-14 that was fitted to people's rankings.

    The score that ``hpsv2.score`` of the authors returns: the cosine as it is, neither times 100
    nor times ``logit_scale``. Source: Wu et al. 2023, Human Preference Score v2, arXiv 2306.09341.

    Args:
        weights: the released file, a folder or hub id that has it (``HPS_v2.1_compressed.pt``),
            or a folder written by ``save_pretrained``.
        processor: where its tokenizer is; empty: with the weights if they are a folder that has
            one, else that of LAION's CLIP-ViT-H-14.
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
        rewards="pictures that people would rank above others for the same prompt",
        range="[-1, 1], a cosine that is not multiplied by 100; the values that occur span a small "
        "part of it. Compare it within a prompt only",
        prompt="all of it, up to 77 tokens",
        hacks="reported: an oily, overdone look (DanceGRPO, arXiv 2505.07818). It sees 224 "
        "pixels: fine detail costs nothing",
        cost="one pass of a ViT-H at 224 pixels per frame and one of its text tower per prompt",
        license="Apache-2.0 (xswu/HPSv2); of the tokenizer see its page",
        weights=f"`{FILE}` of `xswu/HPSv2`, and the tokenizer of `{TOKENIZER}`",
        hub="xswu/HPSv2",
        modules=("transformers", "accelerate"),
        extra="models",
    )

    def __init__(
        self,
        *,
        weights: str = "xswu/HPSv2",
        processor: str = "",
        frames: int = 4,
        over_frames: OverFrames = "mean",
        device: str = "",
        precision: Precision = "float32",
        batch_size: int = 16,
    ) -> None:
        if frames < 1 or batch_size < 1:
            raise ValueError("frames and batch_size must be at least 1")
        self.card.require("hps")
        beside = (Path(weights) / "tokenizer_config.json").is_file()
        self._frames, self._over_frames = frames, over_frames
        self._model = PaddedClip(
            weights,
            name=FILE,
            processor=processor or (weights if beside else TOKENIZER),
            device=device,
            precision=precision,
            batch_size=batch_size,
        )

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,)."""
        cosine = self._model.cosine(sample_frames(media, self._frames), prompts.text)
        return reduce_frames(cosine, self._over_frames)
