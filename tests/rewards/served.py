"""Rewards that the tests serve, found as ``tests.rewards.served:Class``."""

from __future__ import annotations

import torch
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.base import SampleError


class Bright:
    """Mean brightness plus the number of the prompt, which tells samples apart."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        if "broken" in prompts.text:
            raise RewardError("The prompt is broken.", hint="mend it")
        value = media.flatten(1).mean(1) + prompts.prompt_id
        unread = [i for i, text in enumerate(prompts.text) if text == "unread"]
        if unread:
            raise SampleError(value, dict.fromkeys(unread, "nothing to read"))
        return value


class Major:
    """The major version of transformers that is imported, plus a network's output in (0, 1)."""

    def __init__(self) -> None:
        import transformers

        self._major = int(transformers.__version__.partition(".")[0])
        config = transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=8,
            patch_size=4,
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self._model = transformers.ViTModel(config).eval()

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        value: Tensor = self._model(pixel_values=media).last_hidden_state[:, 0, 0].sigmoid()
        return self._major + value


class Centred:
    """Brightness less the mean of the sample's group."""

    level = "group"

    def score(self, media: Tensor, prompts: Prompts, group: Tensor) -> Tensor:
        value = media.flatten(1).mean(1)
        mean = torch.stack([value[group == number].mean() for number in group])
        return value - mean
