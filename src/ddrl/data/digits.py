"""The embedded data: 1797 scanned handwritten digits of 8x8 pixels, shipped by scikit-learn.

Source: E. Alpaydin and C. Kaynak, UCI repository, 1998 (the test set of the optical digits).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits

from ddrl.data.sources import CaptionedMedia
from ddrl.seeding import permutation

__all__ = ["DIGIT_NAMES", "DigitSplits", "digit_splits"]

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUM_TRAIN = 1200


@dataclass(frozen=True)
class DigitSplits:
    """Disjoint uses of the digits.

    Attributes:
        train: 1200 images that models are trained on and anchored to.
        heldout: 597 images that nothing is ever trained on.
        reward: half of ``train``: what the reward's classifier sees.
        judge: the other half: what the judge sees.
    """

    train: CaptionedMedia
    heldout: CaptionedMedia
    reward: CaptionedMedia
    judge: CaptionedMedia


def digit_splits() -> DigitSplits:
    """Load the digits and split them, always in the same way."""
    pixels, digit = load_digits(return_X_y=True)
    media = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8).expand(-1, 3, -1, -1) / 16
    everything = CaptionedMedia(media, torch.from_numpy(digit).long(), DIGIT_NAMES)
    order = permutation(len(everything), 0, "digits-split")
    train = order[:NUM_TRAIN]
    return DigitSplits(
        train=everything.select(train),
        heldout=everything.select(order[NUM_TRAIN:]),
        reward=everything.select(train[: NUM_TRAIN // 2]),
        judge=everything.select(train[NUM_TRAIN // 2 :]),
    )
