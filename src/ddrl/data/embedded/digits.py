"""The embedded data: 1797 scanned handwritten digits of 8x8 pixels, shipped by scikit-learn.

Source: E. Alpaydin and C. Kaynak, UCI repository, 1998 (the test set of the optical digits).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ddrl.data.embedded.sources import CaptionedMedia, Splits

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUM_TRAIN = 1200


def digit_splits() -> Splits:
    """Load the digits and split them, always in the same way: 1200 to train on, 597 held out."""
    table = _table()
    pixels, digit = torch.from_numpy(table[:, :-1]), torch.from_numpy(table[:, -1])
    media = pixels.float().reshape(-1, 1, 8, 8).expand(-1, 3, -1, -1) / 16
    everything = CaptionedMedia(media, digit.long(), DIGIT_NAMES)
    return Splits.cut(everything, NUM_TRAIN, name="digits-split")


def _table() -> NDArray[np.float64]:
    """Shape (1797, 65): pixels from 0 to 16 and the digit.

    The file that ``sklearn.datasets.load_digits`` reads. Importing that takes almost as long as
    importing torch does, and every command would wait for it.
    """
    spec = importlib.util.find_spec("sklearn")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # where another version keeps it elsewhere

    return np.column_stack(load_digits(return_X_y=True))
