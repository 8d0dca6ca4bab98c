"""The cosine between text and picture, by any CLIP or SigLIP."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frames import OverFrames, reduce_frames, sample_frames
from ddrl.rewards.networks.towers import Precision, TextImageModel


class ClipReward:
    """The cosine between the features of prompt and picture, in [-1, 1].

    Args:
        weights: a folder written by ``save_pretrained``, or a hub id, of a CLIP or SigLIP.
        processor: where its tokenizer and image processor are; empty: with the weights.
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

    def __init__(
        self,
        *,
        weights: str,
        processor: str = "",
        frames: int = 4,
        over_frames: OverFrames = "mean",
        device: str = "",
        precision: Precision = "float32",
        batch_size: int = 16,
    ) -> None:
        if frames < 1 or batch_size < 1:
            raise ValueError("frames and batch_size must be at least 1")
        self.card.require("clip")
        self._frames, self._over_frames = frames, over_frames
        self._model = TextImageModel(
            weights,
            processor=processor,
            device=device,
            precision=precision,
            batch_size=batch_size,
        )

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,)."""
        cosine = self._model.cosine(sample_frames(media, self._frames), prompts.text)
        return reduce_frames(cosine, self._over_frames)
