"""The network of VideoReward: a Qwen2-VL that is read at three tokens by a linear head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.rewards.frames import Runtime
from ddrl.rewards.networks.qwen2vl import Qwen2VLReader, load_base
from ddrl.rewards.networks.videoreward_files import (
    VideoRewardConfig,
    find_folder,
    merge_lora,
    read_checkpoint,
)
from ddrl.rewards.networks.videoreward_prompt import REWARD_TOKENS, question
from ddrl.rewards.networks.weight_files import sizes_of


class VideoReward:
    """The network, ready for use.

    Args:
        weights: see :func:`find_folder`.
        runtime: where and how it runs.
        base: folder or hub id with configuration and tokenizer of Qwen2-VL; empty: what the
            released configuration names. Its weights are not read: the checkpoint holds them all.

    Raises:
        WeightsError: something is missing, broken, or of another model.
    """

    def __init__(self, weights: str, runtime: Runtime, *, base: str) -> None:
        folder = find_folder(weights)
        self.config = VideoRewardConfig.read(folder)
        loaded = load_base(base or self.config.base, REWARD_TOKENS)
        state = merge_lora(read_checkpoint(folder), self.config.lora_scale, self.config.lora_rank)
        head = state.pop("rm_head.weight", torch.empty(0))
        embedding = "language_model.embed_tokens.weight"
        _, width = sizes_of(state, {embedding: 2}, folder)
        if head.shape != (self.config.output_dim, width):
            raise WeightsError(
                f"{folder} has a rm_head.weight of shape {tuple(head.shape)}, not "
                f"{(self.config.output_dim, width)}.",
                hint="take weights and model_config.json of one release",
            )
        self.reader = Qwen2VLReader(
            loaded, runtime, tokens=REWARD_TOKENS, state=state, where=folder
        )
        self._head = head.float().to(runtime.device)

    @torch.no_grad()
    def score(self, levels: Tensor, prompts: Sequence[str]) -> Tensor:
        """Raw scores of visual quality, motion quality and text alignment.

        Args:
            levels: pixels from 0 to 255, shape (B, T, 3, H, W), T even, H and W multiples of the
                reader's ``grain``.
            prompts: length B.

        Returns:
            Shape (B, 3), float32, on the CPU.
        """
        hidden = self.reader.read(levels, [question(text) for text in prompts], seen="video")
        value = hidden @ self._head.T
        if self.config.output_dim == 3:
            value = value.diagonal(dim1=1, dim2=2)
        values: Tensor = value.reshape(-1, 3).cpu()
        return values
