"""What samples and data are compared in: features of a named encoder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddrl.rewards.builtin.classifier import Classifier

__all__ = ["judge_features", "pooled_pixels"]


def judge_features(judge: Classifier) -> Callable[[Tensor], NDArray[np.float64]]:
    """The judge's last hidden layer as features."""

    def features(media: Tensor) -> NDArray[np.float64]:
        values: NDArray[np.float64] = judge.features(media).double().numpy()
        return values

    return features


def pooled_pixels(media: Tensor) -> NDArray[np.float64]:
    """Colours on a grid of 4x4, averaged over the frames of a clip: (N, ...) to (N, 48)."""
    frames = media.mean(1) if media.ndim == 5 else media
    pooled = torch.nn.functional.adaptive_avg_pool2d(frames, 4)
    values: NDArray[np.float64] = pooled.flatten(1).double().numpy()
    return values
