"""A reward with a fault of one's choice, found as ``tests.rewards.faulty:Faulty``."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import torch
from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.base import SampleError

RELEASE = threading.Event()
"""Calls that hang end when it is set."""


class Faulty:
    """Brightness, and a fault in one call.

    Args:
        fault: which, or a file that says which at each call.
        at: number of the call; -1: all of them.
    """

    def __init__(self, *, fault: str, at: int = -1) -> None:
        self._fault, self._at, self.calls = fault, at, 0

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        path = Path(self._fault)
        fault = path.read_text() if path.is_absolute() else self._fault
        value, number = media.flatten(1).mean(1), self.calls
        self.calls += 1
        if self._at not in (number, -1):
            return value
        if fault == "raise":
            raise ValueError("planted")
        if fault == "sample":
            raise SampleError(value, {0: "planted"})
        if fault in ("nan", "inf"):
            return value.index_fill(0, torch.tensor([0]), math.nan if fault == "nan" else math.inf)
        if fault == "shape":
            return value[:, None]
        if fault == "order":
            return value.flip(0)
        if fault == "hang":
            RELEASE.wait()
        if fault == "slow":
            time.sleep(0.2)
        return value
