"""Which colour an object has: a zero-shot classifier by any CLIP, as in GenEval."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ddrl.rewards.composition.prompt import COLORS
from ddrl.rewards.composition.rules import Box
from ddrl.rewards.frames import Runtime
from ddrl.rewards.networks.towers import TextImageModel

TEMPLATES = (
    "a photo of a {color} {name}",
    "a photo of a {color}-colored {name}",
    "a photo of a {color} object",
)


class ColorClassifier(TextImageModel):
    """The colour whose texts are nearest to the crop; arguments as of its parent.

    A colour's direction is the mean of its three texts' features, each of length 1. Source:
    arXiv 2310.11513. Departs: the crop shows all of the box, because there is no mask by which
    the background could be painted grey.
    """

    def __init__(self, weights: str, runtime: Runtime) -> None:
        super().__init__(weights, runtime)
        self._directions: dict[str, Tensor] = {}

    @torch.no_grad()
    def color(self, frame: Tensor, name: str, box: Box) -> str:
        """Return the colour, one of GenEval's, of the object in a box of a frame (3, H, W)."""
        piece = crop(frame, box)
        image = self._encode_images(piece[None])[0]
        return COLORS[int((self._direction(name) @ image).argmax())]

    def _direction(self, name: str) -> Tensor:
        """Return the directions of all colours, shape (colours, D)."""
        if name not in self._directions:
            texts = [text.format(color=c, name=name) for c in COLORS for text in TEMPLATES]
            pieces = [self._encode(texts[rows]) for rows in self._runtime.slices(len(texts))]
            features = torch.cat(pieces).reshape(len(COLORS), len(TEMPLATES), -1)
            self._directions[name] = F.normalize(features.mean(1), dim=-1)
        return self._directions[name]


def crop(frame: Tensor, box: Box) -> Tensor:
    """Cut out every pixel that a box touches: (3, H, W) -> (3, h, w)."""
    top, left = math.floor(box.top), math.floor(box.left)
    return frame[:, top : math.ceil(box.bottom), left : math.ceil(box.right)]
