"""HPS v2.1: which of several pictures people prefer for a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frame_reward import FrameReward
from ddrl.rewards.frames import Runtime
from ddrl.rewards.networks.openclip import PaddedClip

FILE = "HPS_v2.1_compressed.pt"
"""What the released weights are called."""

TOKENIZER = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
"""The same tokenizer as open_clip's, which the released weights come without."""


@dataclass(kw_only=True, eq=False)
class HpsReward(FrameReward):
    """cos(prompt, picture) of a CLIP ViT-H-14 that was fitted to people's rankings.

    The score that ``hpsv2.score`` of the authors returns: the cosine as it is, neither times 100
    nor times ``logit_scale``. Source: Wu et al. 2023, Human Preference Score v2, arXiv 2306.09341.

    Args:
        weights: the released file, a folder or hub id that has it (``HPS_v2.1_compressed.pt``),
            or a folder written by ``save_pretrained``.
        processor: where its tokenizer is; empty: with the weights if they are a folder that has
            one, else that of LAION's CLIP-ViT-H-14.
    """

    name = "hps"
    card = RewardCard(
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

    weights: str = "xswu/HPSv2"
    processor: str = ""

    def load(self, runtime: Runtime) -> None:
        """Read the CLIP."""
        is_there = (Path(self.weights) / "tokenizer_config.json").is_file()
        processor = self.processor or (self.weights if is_there else TOKENIZER)
        self._model = PaddedClip(self.weights, runtime, name=FILE, processor=processor)

    def score_frames(self, frames: Tensor, prompts: Prompts) -> Tensor:
        """Pixels in [0, 1], shape (B, F, 3, H, W), and B prompts -> (B, F), on the CPU."""
        return self._model.cosine(frames, prompts.text)
