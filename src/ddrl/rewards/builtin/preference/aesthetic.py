"""LAION's improved aesthetic predictor: how people would rate a picture, whatever it shows."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frames import OverFrames, reduce_frames, sample_frames
from ddrl.rewards.networks.pixels import cropped_square
from ddrl.rewards.networks.towers import Precision, TextImageModel, check_keys
from ddrl.rewards.networks.weight_files import find_file, read_state

FILE = "sac+logos+ava1-l14-linearMSE.pth"
"""What the released weights of the head are called."""

_LAYERS = (0, 2, 4, 6, 7)  # the rest of the authors' nn.Sequential is dropout


class AestheticHead:
    """Five linear layers without anything between them, as the authors left them.

    Args:
        weights: see :func:`ddrl.rewards.networks.weight_files.find_file`.
        width: of the features.

    Raises:
        WeightsError: the weights can't be read, or are not those of such a head.
    """

    def __init__(self, weights: str, width: int) -> None:
        path = find_file(weights, FILE)
        state = read_state(path)
        names = [f"layers.{i}.{kind}" for i in _LAYERS for kind in ("weight", "bias")]
        missing = [name for name in names if name not in state]
        check_keys(path, missing, [name for name in state if name not in names])
        self._weights = [state[f"layers.{i}.weight"].float() for i in _LAYERS]
        self._biases = [state[f"layers.{i}.bias"].float() for i in _LAYERS]
        sizes = [width, *(len(bias) for bias in self._biases)]
        found = [tuple(weight.shape) for weight in self._weights]
        if found != [(out, into) for into, out in pairwise(sizes)] or sizes[-1] != 1:
            raise WeightsError(
                f"{path} has layers of shapes {', '.join(map(str, found))}, which do not lead "
                f"from {width} features to one score.",
                hint="the released head goes with the 768 features of CLIP ViT-L/14",
            )

    def __call__(self, features: Tensor) -> Tensor:
        """Shape (..., width) -> (...)."""
        for weight, bias in zip(self._weights, self._biases, strict=True):
            features = features @ weight.T + bias
        return features[..., 0]


class _CroppedClip(TextImageModel):
    """A CLIP that sees the middle of a picture, as ``clip.load``'s transform cuts it."""

    def _read_image_processor(self, source: str) -> None:
        """None is needed: the transform is fixed."""

    def _pixels(self, images: Tensor) -> Tensor:
        return cropped_square(images, self.image_size)


class AestheticReward:
    """The rating from about 1 to 10 that people would give a picture.

    Linear layers on the image features of OpenAI's CLIP ViT-L/14, at length 1. Source: Schuhmann
    2022, https://github.com/christophschuhmann/improved-aesthetic-predictor (simple_inference.py),
    fitted to SAC, LAION-Logos and AVA.

    Args:
        weights: the head: the released file (``sac+logos+ava1-l14-linearMSE.pth``), or a folder
            or hub id that has it. The default is a copy of the authors' file on the hub.
        clip: a folder written by ``save_pretrained``, or a hub id, of the CLIP below it.
        frames: frames that are scored of a clip.
        over_frames: from frames to the clip.
        device: empty: CUDA if there is one, else the CPU.
        precision: of the CLIP's weights and of its passes.
        batch_size: images per pass.

    Raises:
        RewardError: transformers is not installed, or an option is wrong.
        WeightsError: the weights can't be loaded, or not all of them.
    """

    card: ClassVar[RewardCard] = RewardCard(
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

    def __init__(
        self,
        *,
        weights: str = "camenduru/improved-aesthetic-predictor",
        clip: str = "openai/clip-vit-large-patch14",
        frames: int = 4,
        over_frames: OverFrames = "mean",
        device: str = "",
        precision: Precision = "float32",
        batch_size: int = 16,
    ) -> None:
        if frames < 1 or batch_size < 1:
            raise ValueError("frames and batch_size must be at least 1")
        self.card.require("aesthetic")
        self._frames, self._over_frames = frames, over_frames
        self._clip = _CroppedClip(clip, device=device, precision=precision, batch_size=batch_size)
        self._head = AestheticHead(weights, self._clip.width)

    @torch.no_grad()
    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,)."""
        del prompts
        features = self._clip.image_features(sample_frames(media, self._frames))
        return reduce_frames(self._head(features), self._over_frames)
