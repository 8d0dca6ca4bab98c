"""HPSv3: people's preferences between pictures, by a vision-language model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frames import OverFrames, batches, pick_device, reduce_frames, sample_frames
from ddrl.rewards.networks.hpsv3_prompt import REWARD_TOKEN, question
from ddrl.rewards.networks.qwen2vl import (
    Qwen2VLReader,
    frame_size,
    load_base,
    name_of_today,
    refuse,
)
from ddrl.rewards.networks.towers import Precision, check_keys, resize_levels
from ddrl.rewards.networks.weight_files import find_file, read_state, sizes_of

FILE = "HPSv3.safetensors"
"""What the released weights are called."""

BASE = "Qwen/Qwen2-VL-7B-Instruct"
"""The model that it was made from, whose configuration and tokenizer are needed."""

PIXELS = 256 * 28 * 28
"""Of every picture that is looked at, as near as multiples of 28 come."""

_LAYERS = (0, 3, 5)  # the rest of the authors' nn.Sequential is ReLU and dropout


class RankHead:
    """Three linear layers with ReLU between them: mean and logarithm of the standard deviation.

    Args:
        state: weights that begin with ``rm_head.``.
        width: of the features.
        where: the weights come from, for messages.

    Raises:
        WeightsError: they are not those of such a head.
    """

    def __init__(self, state: Mapping[str, Tensor], width: int, where: Path) -> None:
        names = [f"rm_head.{i}.{kind}" for i in _LAYERS for kind in ("weight", "bias")]
        missing = [name for name in names if name not in state]
        check_keys(where, missing, [name for name in state if name not in names])
        self._weights = [state[f"rm_head.{i}.weight"].float() for i in _LAYERS]
        self._biases = [state[f"rm_head.{i}.bias"].float() for i in _LAYERS]
        sizes = [width, *(len(bias) for bias in self._biases)]
        found = [tuple(weight.shape) for weight in self._weights]
        if found != [(out, into) for into, out in pairwise(sizes)] or sizes[-1] != 2:
            raise WeightsError(
                f"{where} has a head of shapes {', '.join(map(str, found))}, which do not lead "
                f"from {width} features to a mean and a deviation.",
                hint="the option weights names another model; take the released HPSv3",
            )

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Shape (B, D) -> mean and standard deviation, (B,) each, on the CPU."""
        value = features.cpu()
        for i, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            value = F.linear(value if i == 0 else value.relu(), weight, bias)
        return value[:, 0], value[:, 1].exp()


class Hpsv3Reward:
    """The mean of the score that people would give a picture, or a lower bound of it.

    mean - kappa * std, both read off at the token behind the prompt; std is the model's own
    uncertainty. The authors use the mean. Source: Ma et al. 2025, HPSv3: Towards Wide-Spectrum
    Human Preference Score, arXiv 2508.03789.

    Args:
        weights: the released file, or a folder or hub id that has it (``HPSv3.safetensors``).
        base: folder or hub id of the configuration and tokenizer of Qwen2-VL-7B-Instruct. Its
            weights are not needed.
        kappa: how many standard deviations are subtracted; 0 is the authors' score.
        frames: frames that are scored of a clip.
        over_frames: from frames to the clip.
        device: empty: CUDA if there is one, else the CPU.
        precision: of weights and passes; ``auto``: bfloat16 on CUDA, else float32. The head is in
            float32.
        batch_size: pictures per pass.

    Raises:
        RewardError: transformers is not installed, or an option is wrong.
        WeightsError: the weights can't be loaded, or not all of them.
    """

    card: ClassVar[RewardCard] = RewardCard(
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

    def __init__(
        self,
        *,
        weights: str = "MizzenAI/HPSv3",
        base: str = BASE,
        kappa: float = 0.0,
        frames: int = 4,
        over_frames: OverFrames = "mean",
        device: str = "",
        precision: Precision | Literal["auto"] = "auto",
        batch_size: int = 4,
    ) -> None:
        if frames < 1 or batch_size < 1 or not 0 <= kappa < math.inf:
            raise ValueError("frames and batch_size must be at least 1, kappa at least 0")
        self.card.require("hpsv3")
        place = pick_device(device)
        if precision == "auto":
            precision = "bfloat16" if place.type == "cuda" else "float32"
        self._frames, self._over_frames = frames, over_frames
        self._kappa, self._batch_size = kappa, batch_size
        loaded = load_base(base, (REWARD_TOKEN,))
        path = find_file(weights, FILE)
        state = {name_of_today(name): value for name, value in read_state(path).items()}
        head = {name: state.pop(name) for name in list(state) if name.startswith("rm_head.")}
        _, width = sizes_of(state, {"language_model.embed_tokens.weight": 2}, path)
        self._head = RankHead(head, width, path)
        self._reader = Qwen2VLReader(
            loaded,
            tokens=(REWARD_TOKEN,),
            state=state,
            where=path,
            device=place,
            dtype=getattr(torch, precision),
        )

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,).

        Raises:
            SampleError: a prompt holds a token that the model is read at.
        """
        frames = sample_frames(media, self._frames)
        value = torch.full(frames.shape[:2], torch.nan)
        bad = self._reader.unreadable(prompts.text)
        good = [i for i in range(len(media)) if i not in bad]
        pairs = [(i, f) for i in good for f in range(frames.shape[1])]
        for piece in batches(len(pairs), self._batch_size):
            rows, columns = zip(*pairs[piece], strict=True)
            texts = [question(prompts.text[i]) for i in rows]
            seen = self._levels(frames[list(rows), list(columns)])
            mean, std = self._head(self._reader.read(seen[:, None], texts, seen="image")[:, 0])
            value[list(rows), list(columns)] = mean - self._kappa * std
        return refuse(reduce_frames(value, self._over_frames), bad)

    def _levels(self, images: Tensor) -> Tensor:
        """Levels 0 to 255 at the size they are looked at, as Pillow makes them."""
        size = frame_size(
            images.shape[-2],
            images.shape[-1],
            grain=self._reader.grain,
            min_pixels=PIXELS,
            max_pixels=PIXELS,
        )
        levels = (255 * images.float()).round().clamp(0, 255)
        return resize_levels(levels, size, "bicubic")
