"""The cosine between text and picture, by any CLIP or SigLIP."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frame_reward import FrameReward
from ddrl.rewards.frames import Runtime
from ddrl.rewards.networks.towers import TextImageModel


@dataclass(kw_only=True, eq=False)
class ClipReward(FrameReward):
    """The cosine between the features of prompt and picture, in [-1, 1].

    Args:
        weights: a folder written by ``save_pretrained``, or a hub id, of a CLIP or SigLIP.
        processor: where its tokenizer and image processor are; empty: with the weights.
    """

    name = "clip"
    card = RewardCard(
        rewards="pictures that are near their prompt in the features of a CLIP or SigLIP",
        range="[-1, 1]; the values that occur span a small part of it, which depends on the "
        "weights",
        prompt="all of it, up to the length that the model reads (77 tokens for CLIP)",
        hacks="reported: the words of the prompt written into the picture; counts, relations and "
        "negation go unnoticed",
        cost="one pass of the image tower per frame and one of the text tower per prompt",
        license="of the checkpoint that is used",
        weights="option `weights`: any CLIP or SigLIP that transformers loads",
        modules=("transformers",),
        extra="models",
    )

    weights: str
    processor: str = ""

    def load(self, runtime: Runtime) -> None:
        """Read the CLIP or SigLIP."""
        self._model = TextImageModel(self.weights, runtime, processor=self.processor)

    def score_frames(self, frames: Tensor, prompts: Prompts) -> Tensor:
        """Pixels in [0, 1], shape (B, F, 3, H, W), and B prompts -> (B, F), on the CPU."""
        return self._model.cosine(frames, prompts.text)
