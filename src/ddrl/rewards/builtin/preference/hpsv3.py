"""HPSv3: people's preferences between pictures, by a vision-language model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frame_reward import FrameReward
from ddrl.rewards.frames import Precision, Runtime, as_levels
from ddrl.rewards.networks.hpsv3_prompt import REWARD_TOKEN, question
from ddrl.rewards.networks.qwen2vl import (
    Qwen2VLReader,
    frame_size,
    load_base,
    name_of_today,
    refuse,
)
from ddrl.rewards.networks.towers import resize_levels
from ddrl.rewards.networks.weight_files import LinearHead, find_file, read_state, sizes_of

FILE = "HPSv3.safetensors"
"""What the released weights are called."""

BASE = "Qwen/Qwen2-VL-7B-Instruct"
"""The model that it was made from, whose configuration and tokenizer are needed."""

PIXELS = 256 * 28 * 28
"""Of every picture that is looked at, as near as multiples of 28 come."""


@dataclass(kw_only=True, eq=False)
class Hpsv3Reward(FrameReward):
    """The mean of the score that people would give a picture, or a lower bound of it.

    mean - kappa * std, both read off at the token behind the prompt; std is the model's own
    uncertainty. The authors use the mean. Source: Ma et al. 2025, HPSv3: Towards Wide-Spectrum
    Human Preference Score, arXiv 2508.03789.

    Args:
        weights: the released file, or a folder or hub id that has it (``HPSv3.safetensors``).
        base: folder or hub id of the configuration and tokenizer of Qwen2-VL-7B-Instruct. Its
            weights are not needed.
        kappa: how many standard deviations are subtracted; 0 is the authors' score.
        precision: type of weights and passes; ``auto``: bfloat16 on CUDA, else float32. The head
            is in float32.
    """

    name = "hpsv3"
    card = RewardCard(
        rewards="pictures that people would prefer: clear, beautiful, true to the prompt",
        range="unbounded. A difference of 1 between two pictures means odds of about e to 1 for "
        "the better one, less where the model is uncertain",
        prompt="all of it; one that holds a special token of the model has no reward",
        hacks="reported: messy pictures that score above 15, and faces that all look alike "
        "(issue 19 of MizzenAI/HPSv3). It sees about 200 704 pixels: finer detail costs nothing",
        cost="a pass of Qwen2-VL-7B per frame: about 2 600 characters of text and 256 tokens of "
        "picture",
        license="Apache-2.0 (MizzenAI/HPSv3 and Qwen2-VL-7B)",
        weights=f"`{FILE}` of `MizzenAI/HPSv3`, and config and tokenizer of `{BASE}`",
        hub="MizzenAI/HPSv3",
        modules=("transformers", "accelerate"),
        extra="models",
    )

    weights: str = "MizzenAI/HPSv3"
    base: str = BASE
    kappa: float = 0.0
    precision: Precision | Literal["auto"] = "auto"  # type: ignore[assignment]
    batch_size: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.kappa < math.inf:
            raise ValueError("kappa must be at least 0")
        super().__post_init__()

    def load(self, runtime: Runtime) -> None:
        """Read the head, which is in float32, and the Qwen2-VL below it."""
        self._runtime = runtime
        loaded = load_base(self.base, (REWARD_TOKEN,))
        path = find_file(self.weights, FILE)
        state = {name_of_today(name): value for name, value in read_state(path).items()}
        head = {name: state.pop(name) for name in list(state) if name.startswith("rm_head.")}
        _, width = sizes_of(state, {"language_model.embed_tokens.weight": 2}, path)
        self._head = LinearHead(
            head,
            "rm_head",
            (0, 3, 5),  # the rest of the authors' nn.Sequential is ReLU and dropout
            sizes=(width, 2),
            to="a mean and a deviation",
            where=path,
            hint="the option weights names another model; take the released HPSv3",
        )
        self._reader = Qwen2VLReader(
            loaded, runtime, tokens=(REWARD_TOKEN,), state=state, where=path
        )

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,).

        Raises:
            SampleError: a prompt holds a token that the model is read at.
        """
        return refuse(super().score(media, prompts), self._reader.unreadable(prompts.text))

    def score_frames(self, frames: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, F, 3, H, W) -> (B, F), on the CPU; NaN where a prompt can't be read."""
        texts, value = prompts.text, torch.full(frames.shape[:2], torch.nan)
        bad = self._reader.unreadable(texts)
        pairs = [(i, f) for i in range(len(texts)) if i not in bad for f in range(frames.shape[1])]
        for piece in self._runtime.slices(len(pairs)):
            rows, columns = map(list, zip(*pairs[piece], strict=True))
            seen = self._levels(frames[rows, columns])[:, None]
            asked = [question(texts[i]) for i in rows]
            mean, std = self._judge(self._reader.read(seen, asked, seen="image")[:, 0])
            value[rows, columns] = mean - self.kappa * std
        return value

    def _judge(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Shape (B, D) -> mean and standard deviation, (B,) each, on the CPU."""
        value = features.cpu()
        for i, (weight, bias) in enumerate(self._head.layers):
            value = F.linear(value if i == 0 else value.relu(), weight, bias)
        return value[:, 0], value[:, 1].exp()

    def _levels(self, images: Tensor) -> Tensor:
        """Return levels 0 to 255 at the size that the model sees, as Pillow makes them."""
        height, width = images.shape[-2:]
        grain = self._reader.grain
        size = frame_size(height, width, grain=grain, min_pixels=PIXELS, max_pixels=PIXELS)
        return resize_levels(as_levels(images), size, "bicubic")
