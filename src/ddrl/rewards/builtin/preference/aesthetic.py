"""LAION's improved aesthetic predictor: how people would rate a picture, whatever it shows."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frame_reward import FrameReward
from ddrl.rewards.frames import Runtime
from ddrl.rewards.networks.pixels import cropped_square
from ddrl.rewards.networks.towers import TextImageModel
from ddrl.rewards.networks.weight_files import LinearHead, find_file, read_state

FILE = "sac+logos+ava1-l14-linearMSE.pth"
"""What the released weights of the head are called."""


class _CroppedClip(TextImageModel):
    """A CLIP that sees the middle of a picture, as ``clip.load``'s transform cuts it."""

    def _read_image_processor(self, source: str) -> None:
        """Read nothing: the transform is fixed."""

    def _pixels(self, images: Tensor) -> Tensor:
        return cropped_square(images, self.image_size)


@dataclass(kw_only=True, eq=False)
class AestheticReward(FrameReward):
    """The rating from about 1 to 10 that people would give a picture.

    Linear layers on the image features of OpenAI's CLIP ViT-L/14, at length 1. Source: Schuhmann
    2022, https://github.com/christophschuhmann/improved-aesthetic-predictor (simple_inference.py),
    fitted to SAC, LAION-Logos and AVA.

    Args:
        weights: the head: the released file (``sac+logos+ava1-l14-linearMSE.pth``), or a folder
            or hub id that has it. The default is a copy of the authors' file on the hub.
        clip: a folder written by ``save_pretrained``, or a hub id, of the CLIP below it.
    """

    name = "aesthetic"
    card = RewardCard(
        rewards="pictures that people rate as beautiful",
        range="ratings of 1 to 10 were fitted; unbounded by itself",
        prompt="none",
        hacks="it does not hear the prompt: nothing keeps the pictures of all prompts from looking "
        "alike. It sees the middle square at 224 pixels only",
        cost="one pass of a ViT-L at 224 pixels per frame",
        license="see the pages of the two models",
        weights=f"the head `{FILE}` of `camenduru/improved-aesthetic-predictor`, a copy of the "
        "authors' file, and `openai/clip-vit-large-patch14`",
        hub="camenduru/improved-aesthetic-predictor",
        modules=("transformers",),
        extra="models",
    )

    weights: str = "camenduru/improved-aesthetic-predictor"
    clip: str = "openai/clip-vit-large-patch14"

    def load(self, runtime: Runtime) -> None:
        """Read the CLIP and the head."""
        self._clip = _CroppedClip(self.clip, runtime)
        path = find_file(self.weights, FILE)
        self._head = LinearHead(
            read_state(path),
            "layers",
            (0, 2, 4, 6, 7),  # the rest of the authors' nn.Sequential is dropout
            sizes=(self._clip.width, 1),
            to="one score",
            where=path,
            hint="the released head goes with the 768 features of CLIP ViT-L/14",
        )

    def score_frames(self, frames: Tensor, prompts: Prompts) -> Tensor:
        """Pixels in [0, 1], shape (B, F, 3, H, W), and B prompts -> (B, F), on the CPU."""
        del prompts
        features = self._clip.image_features(frames)
        for weight, bias in self._head.layers:
            features = features @ weight.T + bias
        return features[..., 0]
