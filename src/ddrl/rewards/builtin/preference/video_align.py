"""VideoReward of VideoAlign: people's preferences between clips, in three dimensions."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ddrl.errors import RewardError, WeightsError
from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frames import Precision, Runtime, as_levels
from ddrl.rewards.networks.qwen2vl import Qwen2VLReader, frame_size, load_base, refuse
from ddrl.rewards.networks.videoreward_files import (
    VideoRewardConfig,
    find_folder,
    merge_lora,
    read_checkpoint,
)
from ddrl.rewards.networks.videoreward_prompt import REWARD_TOKENS, question
from ddrl.rewards.networks.weight_files import sizes_of

Dimension = Literal["overall", "visual", "motion", "text"]

MIN_PIXELS = 128 * 28 * 28
"""Smaller frames are enlarged, as in the authors' code."""

MIN_FRAMES, MAX_FRAMES = 4, 768


def frame_index(num_frames: int, *, clip_fps: float, fps: float) -> Tensor:
    """Choose which frames of a clip are seen: ``fps`` a second, an even number, 4 to 768.

    Clips of two or three frames give two.
    """
    most = min(num_frames, MAX_FRAMES) // 2 * 2
    wanted = min(max(num_frames / clip_fps * fps, MIN_FRAMES), most)
    return torch.linspace(0, num_frames - 1, round(wanted / 2) * 2).round().long()


class VideoAlignReward:
    """VideoReward's judgement of a clip: visual, motion quality, text alignment, or their sum.

    Source: Liu et al. 2025, Improving Video Generation with Human Feedback.

    Args:
        weights: the released folder (``model_config.json`` and ``checkpoint-*/model.pth``), or a
            hub id.
        base: folder or hub id of Qwen2-VL's configuration and tokenizer; empty: what the released
            configuration names. Its weights are not needed.
        dimension: ``visual``, ``motion``, ``text``, or ``overall``, the sum of the three, as the
            authors' code has it.
        clip_fps: frames per second of the clips that are scored.
        normalized: subtract the authors' mean and divide by their standard deviation, each
            dimension for itself.
        device: where the network runs; empty: on CUDA if there is one, else on the CPU.
        precision: type of weights and passes; ``auto``: bfloat16 on CUDA, else float32.
        batch_size: clips per pass.

    Raises:
        RewardError: transformers is not installed, or an option is wrong.
        WeightsError: the weights can't be loaded, or not all of them.
    """

    card: ClassVar[RewardCard] = RewardCard(
        rewards="clips that people would prefer: clear, moving well, true to the prompt",
        range="about standard normal per dimension over the authors' clips when normalized; "
        "unbounded. `overall` is the sum of three",
        prompt="`text` depends on all of it; `visual` and `motion` hear nothing of it: it comes "
        "behind their tokens",
        hacks="it sees two frames a second at no more than 200 704 pixels each: flicker between "
        "them and fine detail cost nothing",
        cost="a pass of Qwen2-VL-2B per clip: about 4 000 characters of text, at most 256 tokens "
        "per two frames",
        media=("clips",),
        license="Apache-2.0 (KwaiVGI/VideoReward and Qwen2-VL-2B)",
        weights="`KwaiVGI/VideoReward`, and config and tokenizer of `Qwen/Qwen2-VL-2B-Instruct`",
        hub="KwaiVGI/VideoReward",
        modules=("transformers", "accelerate"),
        extra="models",
    )

    def __init__(
        self,
        *,
        weights: str = "KwaiVGI/VideoReward",
        base: str = "",
        dimension: Dimension = "overall",
        clip_fps: float = 16.0,
        normalized: bool = True,
        device: str = "",
        precision: Precision | Literal["auto"] = "auto",
        batch_size: int = 4,
    ) -> None:
        if batch_size < 1 or not 0 < clip_fps < math.inf:
            raise ValueError("batch_size must be at least 1, clip_fps above 0")
        self.card.require("video_align")
        self._runtime = Runtime.of(device, precision, batch_size)
        self._dimension, self._clip_fps = dimension, clip_fps
        folder = find_folder(weights)
        self._config = config = VideoRewardConfig.read(folder)
        loaded = load_base(base or config.base, REWARD_TOKENS)
        state = merge_lora(read_checkpoint(folder), config.lora_scale, config.lora_rank)
        head = state.pop("rm_head.weight", torch.empty(0))
        _, width = sizes_of(state, {"language_model.embed_tokens.weight": 2}, folder)
        if head.shape != (config.output_dim, width):
            raise WeightsError(
                f"{folder} has a rm_head.weight of shape {tuple(head.shape)}, not "
                f"{(config.output_dim, width)}.",
                hint="take weights and model_config.json of one release",
            )
        self._reader = Qwen2VLReader(
            loaded, self._runtime, tokens=REWARD_TOKENS, state=state, where=folder
        )
        self._head = head.float().to(self._runtime.device)
        self._mean = torch.tensor(config.mean) if normalized else torch.zeros(3)
        self._std = torch.tensor(config.std) if normalized else torch.ones(3)

    @torch.no_grad()
    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, T, 3, H, W) -> (B,).

        Raises:
            SampleError: a prompt holds a token that the model is read at.
            RewardError: these are no clips.
        """
        if media.ndim != 5 or media.shape[2] != 3 or media.shape[1] < 2:
            raise RewardError(
                f"Reward 'video_align' scores clips of shape (B, T, 3, H, W), not "
                f"{tuple(media.shape)}.",
                hint="a clip has at least two frames; for images there is pickscore",
            )
        value = torch.full((len(media), 3), torch.nan)
        bad = self._reader.unreadable(prompts.text)
        good = [i for i in range(len(media)) if i not in bad]
        for piece in self._runtime.slices(len(good)):
            rows = good[piece]
            questions = [question(prompts.text[i]) for i in rows]
            hidden = self._reader.read(self._frames(media[rows]), questions, seen="video")
            each = hidden @ self._head.T
            if self._config.output_dim == 3:
                each = each.diagonal(dim1=1, dim2=2)
            value[rows] = each.reshape(-1, 3).cpu()
        value = (value - self._mean) / self._std
        if self._dimension == "overall":
            chosen = value.sum(1)
        else:
            chosen = value[:, ("visual", "motion", "text").index(self._dimension)]
        return refuse(chosen, bad)

    def _frames(self, media: Tensor) -> Tensor:
        """Return the frames that the model sees, as levels 0 to 255 at the size it sees."""
        config = self._config
        index = frame_index(media.shape[1], clip_fps=self._clip_fps, fps=config.fps)
        frames = media[:, index.to(media.device)]
        height, width = media.shape[-2:]
        grain, most = self._reader.grain, config.max_pixels
        size = frame_size(height, width, grain=grain, min_pixels=MIN_PIXELS, max_pixels=most)
        levels = as_levels(frames.flatten(0, 1))
        levels = F.interpolate(levels, size, mode="bicubic", antialias=True).clamp(0, 255).round()
        return levels.reshape(*frames.shape[:3], *size)
