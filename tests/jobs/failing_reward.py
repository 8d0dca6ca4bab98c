"""A reward without a value for one sample: ``tests.jobs.failing_reward:OneFails``."""

from __future__ import annotations

import torch
from torch import Tensor

from ddrl.records import Prompts


class OneFails:
    """Brightness, but for the first sample of a call."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        value = media.flatten(1).mean(1)
        value[0] = torch.nan
        return value
