"""A Qwen2-VL that is read at certain tokens, as reward models are that are made from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.rewards.base import SampleError
from ddrl.rewards.frames import Runtime
from ddrl.rewards.networks.loading import loading
from ddrl.rewards.networks.pixels import normalized
from ddrl.rewards.networks.weight_files import fill

Seen = Literal["image", "video"]

# Qwen2-VL's chat template for something seen and one text, written out.
_BEFORE = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
_AFTER = "<|im_end|>\n<|im_start|>assistant\n"


def frame_size(
    height: int, width: int, *, grain: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """Choose the size that frames are resized to: multiples of ``grain``, about the same shape.

    Their number of pixels is from ``min_pixels`` to ``max_pixels``; where the two are closer than
    the grain allows, it may be above.
    """
    rows, columns = (max(1, round(side / grain)) for side in (height, width))
    if rows * columns * grain**2 > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows, columns = (max(1, math.floor(side / shrink / grain)) for side in (height, width))
    elif rows * columns * grain**2 < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows, columns = (math.ceil(side * grow / grain) for side in (height, width))
    return rows * grain, columns * grain


def patches(levels: Tensor, *, size: int, merge: int, depth: int) -> Tensor:
    """Cut clips to the patches that Qwen2-VL's vision tower takes, in its order.

    Args:
        levels: pixels from 0 to 255, shape (B, T, 3, H, W); T is a multiple of ``depth``, H and W
            of ``size * merge``.
        size: height and width of a patch.
        merge: patches of each direction that become one token.
        depth: frames of a patch.

    Returns:
        Shape (number of patches, 3 depth size^2): clip after clip, in it pair of frames after
        pair, then token after token, and the token's patches row by row.
    """
    B, T, C, H, W = levels.shape
    rows, columns = H // size // merge, W // size // merge
    cut = normalized(levels / 255).reshape(
        B, T // depth, depth, C, rows, merge, size, columns, merge, size
    )
    cut = cut.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9)
    return cut.reshape(-1, C * depth * size * size)


def name_of_today(name: str) -> str:
    """Translate a weight's name of PEFT or of older versions to that of ``Qwen2VLModel``."""
    name = name.removeprefix("base_model.model.")
    inner = name.removeprefix("model.")
    if inner == name or inner.startswith(("visual.", "language_model.")):
        return inner
    return f"language_model.{inner}"


def load_base(base: str, tokens: Sequence[str]) -> tuple[Any, Any]:
    """Read Qwen2-VL's configuration, and its tokenizer with more tokens.

    Args:
        base: folder or hub id of the two; weights are not needed.
        tokens: tokens that are added to the tokenizer.

    Raises:
        WeightsError: they can't be read, or are another model's.
    """
    import transformers

    with loading(
        base,
        "download config and tokenizer of the Qwen2-VL that the reward was made from to a folder "
        "and name it with the option base",
    ):
        config = transformers.AutoConfig.from_pretrained(base, trust_remote_code=False)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            base, trust_remote_code=False, padding_side="right"
        )
    if config.model_type != "qwen2_vl":
        raise WeightsError(
            f"{base} is a {config.model_type}, not a Qwen2-VL.",
            hint="name a Qwen2-VL with the option base",
        )
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    return config, tokenizer


class Qwen2VLReader:
    """The network without a head, ready for use.

    Args:
        base: see :func:`load_base`.
        runtime: where and how it runs.
        tokens: tokens at which it is read.
        state: all weights, in today's names.
        where: where they come from, for messages.

    Raises:
        WeightsError: something is missing, broken, or of another model.
    """

    def __init__(
        self,
        base: tuple[Any, Any],
        runtime: Runtime,
        *,
        tokens: Sequence[str],
        state: Mapping[str, Tensor],
        where: Path,
    ) -> None:
        from transformers import Qwen2VLModel

        config, self._tokenizer = base
        config.text_config.vocab_size = len(self._tokenizer)
        self._device = runtime.device
        self._tokens = self._tokenizer.convert_tokens_to_ids(list(tokens))
        self._seen = {"image": config.image_token_id, "video": config.video_token_id}
        self._vision = config.vision_config
        model: Any = fill(
            lambda: Qwen2VLModel(config),
            {name: value for name, value in state.items() if name != "lm_head.weight"},
            where,
            hint="is base the model that it was made from, and the tokenizer's length right?",
        )
        self._model = model.to(runtime.device, runtime.dtype).eval().requires_grad_(False)

    @property
    def grain(self) -> int:
        """The number of pixels that divides the height and width of frames."""
        return int(self._vision.patch_size * self._vision.spatial_merge_size)

    def unreadable(self, prompts: Sequence[str]) -> list[int]:
        """Return the places of prompts that hold tokens which belong to the model."""
        own = {*self._tokens, *self._seen.values()}
        each = (self._tokenizer(prompt)["input_ids"] for prompt in prompts)
        return [i for i, ids in enumerate(each) if own & set(ids)]

    @torch.no_grad()
    def read(self, levels: Tensor, questions: Sequence[str], *, seen: Seen) -> Tensor:
        """Return the last layer's output at the tokens.

        Args:
            levels: pixels from 0 to 255, shape (B, T, 3, H, W), T even, or 1 of an image, H and W
                multiples of :attr:`grain`.
            questions: texts that hold every token once, length B.
            seen: as what the pixels are shown.

        Returns:
            Shape (B, number of tokens, D), float32, on the device.
        """
        size, merge = self._vision.patch_size, self._vision.spatial_merge_size
        depth = self._vision.temporal_patch_size
        if levels.shape[1] == 1:  # an image is a clip in which nothing moves
            levels = levels.expand(-1, depth, -1, -1, -1)
        B, T, _, H, W = levels.shape
        grid = torch.tensor([[T // depth, H // size, W // size]] * B, device=self._device)
        inputs = self._tokenize(questions, seen, int(grid[0].prod()) // merge**2)
        ids = inputs["input_ids"]
        # Plain positions, and not Qwen2-VL's three-dimensional ones: these rewards were trained by
        # code whose language model got embeddings and no tokens, and then counts from 0.
        position = torch.arange(ids.shape[1], device=self._device).expand(3, B, -1)
        cut = patches(levels.to(self._device), size=size, merge=merge, depth=depth)
        pixels = "pixel_values" if seen == "image" else "pixel_values_videos"
        hidden = self._model(
            **inputs,
            **{pixels: cut, f"{seen}_grid_thw": grid},
            position_ids=position,
            use_cache=False,
        ).last_hidden_state
        asked = torch.isin(ids, torch.tensor(self._tokens, device=self._device))
        read: Tensor = hidden[asked].float().reshape(B, len(self._tokens), -1)
        return read

    def _tokenize(self, questions: Sequence[str], seen: Seen, count: int) -> dict[str, Tensor]:
        shown = f"<|vision_start|>{f'<|{seen}_pad|>' * count}<|vision_end|>"
        texts = [f"{_BEFORE}{shown}{question}{_AFTER}" for question in questions]
        tokens = self._tokenizer(texts, padding=True, return_tensors="pt").to(self._device)
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}


def refuse(value: Tensor, rows: Sequence[int]) -> Tensor:
    """Return the values, shape (B,), if every prompt can be read.

    Args:
        value: the values of all samples.
        rows: what :meth:`Qwen2VLReader.unreadable` found.

    Raises:
        SampleError: some could not.
    """
    if rows:
        cause = "the prompt holds a special token of the reward's model"
        raise SampleError(value, dict.fromkeys(rows, cause), hint="take it out of the data")
    return value
