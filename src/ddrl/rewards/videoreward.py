"""The network of VideoReward: a Qwen2-VL that is read at three tokens by a linear head."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.rewards.towers import UNREADABLE, check_keys
from ddrl.rewards.videoreward_files import (
    VideoRewardConfig,
    find_folder,
    merge_lora,
    read_checkpoint,
)
from ddrl.rewards.videoreward_prompt import REWARD_TOKENS, question

__all__ = ["VideoReward", "patches"]

# The mean and standard deviation of CLIP's images, which are Qwen2-VL's.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)

# Qwen2-VL's chat template for one clip and one text, written out.
_BEFORE = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
_AFTER = "<|im_end|>\n<|im_start|>assistant\n"


def patches(levels: Tensor, *, size: int, merge: int, depth: int) -> Tensor:
    """Cut clips to the patches that Qwen2-VL's vision tower takes, in its order.

    Args:
        levels: pixels from 0 to 255, shape (B, T, 3, H, W); T is a multiple of ``depth``, H and W
            of ``size * merge``.
        size: of a patch.
        merge: patches of each direction that become one token.
        depth: frames of a patch.

    Returns:
        Shape (number of patches, 3 depth size^2): clip after clip, in it pair of frames after
        pair, then token after token, and the token's patches row by row.
    """
    mean, std = (torch.tensor(v, device=levels.device)[:, None, None] for v in (_MEAN, _STD))
    B, T, C, H, W = levels.shape
    rows, columns = H // size // merge, W // size // merge
    cut = ((levels / 255 - mean) / std).reshape(
        B, T // depth, depth, C, rows, merge, size, columns, merge, size
    )
    cut = cut.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9)
    return cut.reshape(-1, C * depth * size * size)


class VideoReward:
    """The network, ready for use.

    Args:
        weights: see :func:`find_folder`.
        base: folder or hub id with configuration and tokenizer of Qwen2-VL; empty: what the
            released configuration names. Its weights are not read: the checkpoint holds them all.
        device: where it runs.
        dtype: of the weights and of the passes.

    Raises:
        WeightsError: something is missing, broken, or of another model.
    """

    def __init__(
        self, weights: str, *, base: str, device: torch.device, dtype: torch.dtype
    ) -> None:
        folder = find_folder(weights)
        self.config = VideoRewardConfig.read(folder)
        self._device = device
        config, self._tokenizer = _load_base(base or self.config.base)
        state = merge_lora(read_checkpoint(folder), self.config.lora_scale, self.config.lora_rank)
        state.pop("lm_head.weight", None)  # it writes texts, and nothing is written here
        self._head = state.pop("rm_head.weight", torch.empty(0))
        shape = (self.config.output_dim, config.text_config.hidden_size)
        if self._head.shape != shape:
            raise WeightsError(
                f"{folder} has a rm_head.weight of shape {tuple(self._head.shape)}, not {shape}."
            )
        self._tokens = self._tokenizer.convert_tokens_to_ids(list(REWARD_TOKENS))
        self._vision, self._video_token = config.vision_config, config.video_token_id
        self._model = _build(config, len(self._tokenizer), state, folder)
        self._model.to(device, dtype).eval().requires_grad_(False)
        self._head = self._head.float().to(device)

    @property
    def grain(self) -> int:
        """Height and width of frames are multiples of it."""
        return int(self._vision.patch_size * self._vision.spatial_merge_size)

    def reads(self, prompt: str) -> bool:
        """Whether the prompt leaves the model's own tokens to the model."""
        ids = self._tokenizer(prompt)["input_ids"]
        return not {*self._tokens, self._video_token} & set(ids)

    @torch.no_grad()
    def score(self, levels: Tensor, prompts: Sequence[str]) -> Tensor:
        """Raw scores of visual quality, motion quality and text alignment.

        Args:
            levels: pixels from 0 to 255, shape (B, T, 3, H, W), T even, H and W multiples of
                :attr:`grain`.
            prompts: length B.

        Returns:
            Shape (B, 3), float32, on the CPU.
        """
        size, merge = self._vision.patch_size, self._vision.spatial_merge_size
        depth = self._vision.temporal_patch_size
        B, T, _, H, W = levels.shape
        grid = torch.tensor([[T // depth, H // size, W // size]] * B, device=self._device)
        tokens = self._tokenize(prompts, int(grid[0].prod()) // merge**2)
        ids = tokens["input_ids"]
        # Plain positions, and not Qwen2-VL's three-dimensional ones: VideoReward was trained with
        # transformers 4.45, whose model used these wherever it did not generate text.
        position = torch.arange(ids.shape[1], device=self._device).expand(3, B, -1)
        cut = patches(levels.to(self._device), size=size, merge=merge, depth=depth)
        hidden = self._model(
            **tokens,
            position_ids=position,
            pixel_values_videos=cut,
            video_grid_thw=grid,
            use_cache=False,
        ).last_hidden_state
        asked = torch.isin(ids, torch.tensor(self._tokens, device=self._device))
        value = (hidden[asked].float() @ self._head.T).reshape(B, 3, -1)
        if self.config.output_dim == 3:
            value = value.diagonal(dim1=1, dim2=2)
        values: Tensor = value.reshape(B, 3).cpu()
        return values

    def _tokenize(self, prompts: Sequence[str], num_video_tokens: int) -> Any:  # noqa: ANN401
        video = f"<|vision_start|>{'<|video_pad|>' * num_video_tokens}<|vision_end|>"
        texts = [f"{_BEFORE}{video}{question(prompt)}{_AFTER}" for prompt in prompts]
        tokens = self._tokenizer(texts, padding=True, return_tensors="pt").to(self._device)
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}


def _load_base(base: str) -> tuple[Any, Any]:
    """Qwen2-VL's configuration, and its tokenizer with the reward tokens.

    Raises:
        WeightsError: they can't be read, or are another model's.
    """
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(base)
        tokenizer = transformers.AutoTokenizer.from_pretrained(base, padding_side="right")
    except UNREADABLE as error:
        raise WeightsError(
            f"{base} can't be loaded: {' '.join(str(error).split())[:300]}",
            hint="download config and tokenizer of Qwen2-VL-2B-Instruct to a folder and name it "
            "with the option base",
        ) from error
    if config.model_type != "qwen2_vl":
        raise WeightsError(f"{base} is a {config.model_type}, not a Qwen2-VL.")
    tokenizer.add_tokens(list(REWARD_TOKENS), special_tokens=True)
    return config, tokenizer


def _build(config: Any, vocabulary: int, state: dict[str, Tensor], folder: Path) -> Any:  # noqa: ANN401
    """A ``Qwen2VLModel`` with these weights and no others.

    Raises:
        WeightsError: a weight is missing, unexpected, or of another shape.
    """
    from transformers import Qwen2VLModel

    config.text_config.vocab_size = vocabulary
    with importlib.import_module("accelerate").init_empty_weights():
        model = Qwen2VLModel(config)
    try:
        result = model.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{folder} does not fit its Qwen2-VL: {' '.join(str(error).split())[:300]}",
            hint="is base the model that it was made from, and the tokenizer's length right?",
        ) from error
    check_keys(folder, result.missing_keys, result.unexpected_keys)
    return model
