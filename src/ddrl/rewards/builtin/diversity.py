"""How far a sample is from the others of its group: a reward that sees whole groups."""

from __future__ import annotations

import importlib.util
import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.base import SampleError
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frames import Precision, Runtime, sample_frames
from ddrl.rewards.networks.vision import VisionModel


class Diversity:
    """The mean distance of a sample to the other members of its group.

    With f_i the features of sample i and G its group, the reward is
    r_i = 1 / (|G| - 1) * sum of d(f_i, f_j) over the other j in G. In pixels d is the root of
    the mean squared difference, between 0 and 1; in the features of an encoder it is 1 less their
    cosine. Of clips it is the mean over frames at the same place. Members whose pixels are not
    finite are left out; a sample without another member has no reward.

    Args:
        encoder: a folder written by ``save_pretrained``, or a hub id, of a CLIP, SigLIP, DINO or
            ViT; empty: distances are between pixels.
        size: rows and columns that pictures are averaged down to, without an encoder.
        frames: how many frames of a clip are compared.
        device: where the encoder runs; empty: on CUDA if there is one, else on the CPU.
        precision: type of the encoder's weights and passes.
        batch_size: pictures per pass of the encoder.

    Raises:
        RewardError: transformers is not installed, or an option is wrong.
        WeightsError: the encoder can't be loaded, or not all of it.
    """

    level: ClassVar[Literal["group"]] = "group"
    card: ClassVar[RewardCard] = RewardCard(
        rewards="samples that differ from the others of their prompt in the same step",
        range="at least 0; at most 1 between pixels, at most 2 between features of an encoder",
        prompt="none",
        hacks="it does not ask what the samples show: between pixels, black next to white or noise "
        "is best; in an encoder's features, pictures of something else. Give it a small weight "
        "next to a reward of quality",
        cost="distances of all pairs of a group; with an `encoder` one pass of it per frame, and "
        "`pip install 'ddrl[models]'`",
        license="none needed; with an `encoder` that of its checkpoint",
    )

    def __init__(
        self,
        *,
        encoder: str = "",
        size: int = 16,
        frames: int = 4,
        device: str = "",
        precision: Precision = "float32",
        batch_size: int = 16,
    ) -> None:
        if min(size, frames, batch_size) < 1:
            raise ValueError("size, frames and batch_size must be at least 1")
        self._size, self._frames = size, frames
        self._model = None
        if encoder:
            if importlib.util.find_spec("transformers") is None:
                raise RewardError(
                    "Reward 'diversity' needs transformers for its encoder.",
                    hint="pip install 'ddrl[models]'",
                )
            self._model = VisionModel(encoder, Runtime.of(device, precision, batch_size))

    def score(self, media: Tensor, prompts: Prompts, group: Tensor) -> Tensor:  # noqa: ARG002
        """Shape (B, 3, H, W) or (B, T, 3, H, W) and groups (B,) -> (B,)."""
        frames = sample_frames(media, self._frames)
        finite = frames.flatten(1).isfinite().all(1)
        features = self._features(frames.where(finite[:, None, None, None, None], 0))
        value = torch.full((len(media),), torch.nan)
        lonely: dict[int, str] = {}
        for number in sorted(set(group.tolist())):
            rows = ((group == number).cpu() & finite.cpu()).nonzero().flatten()
            if len(rows) < 2:
                lonely |= {int(row): "its group has no other sample" for row in rows}
                continue
            value[rows] = self._distances(features[rows]).sum(1) / (len(rows) - 1)
        if lonely:
            raise SampleError(
                value, lonely, hint="groups of at least 2 samples have one: rollout.group_size"
            )
        return value

    def _features(self, frames: Tensor) -> Tensor:
        """Pixels (B, F, 3, H, W) -> (B, F, D), on the CPU."""
        images = frames.flatten(0, 1)
        if self._model is not None:
            return self._model.features(images).reshape(*frames.shape[:2], -1)
        height, width = min(self._size, images.shape[-2]), min(self._size, images.shape[-1])
        small = F.adaptive_avg_pool2d(images.float(), (height, width))
        return small.reshape(*frames.shape[:2], -1).cpu()

    def _distances(self, features: Tensor) -> Tensor:
        """Features of a group, (N, F, D), to the distances of all pairs, (N, N)."""
        by_frame = features.transpose(0, 1)
        if self._model is not None:
            distance = 1 - by_frame @ by_frame.mT
        else:
            # Not by products, whose rounding would give equal samples a distance.
            distance = torch.cdist(
                by_frame, by_frame, compute_mode="donot_use_mm_for_euclid_dist"
            ) / math.sqrt(features.shape[-1])
        mean = distance.mean(0)
        return mean.fill_diagonal_(0)  # an encoder's features are of length 1 up to rounding
