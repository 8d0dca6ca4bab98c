"""VBench: consistency, smoothness and quality of clips, by VBench's own package."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.base import SampleError
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frames import as_bytes, pick_device
from ddrl.rewards.mp4 import write_mp4
from ddrl.rewards.networks.loading import one_line

DEFAULT = (
    "subject_consistency",
    "background_consistency",
    "motion_smoothness",
    "aesthetic_quality",
    "imaging_quality",
)

DIMENSIONS = (
    *DEFAULT,
    *("temporal_flickering", "dynamic_degree", "temporal_style", "overall_consistency"),
)
"""What VBench scores on any clip; the other seven need its own prompts, file names or labels."""

_SCALE = {"imaging_quality": 0.01}  # of one clip it is in percent, of all of them in [0, 1]
_NAME = "ddrl"
_LEAST_FRAMES = 3  # every second one is taken, and there is one in between


class VBenchReward:
    """The mean of some of VBench's dimensions, each as VBench gives it, about [0, 1].

    Source: arXiv 2311.17982. Clips become MP4 files in a temporary folder, without loss but for
    the rounding of colours, and VBench scores them in its mode for clips of one's own.

    Args:
        dimensions: any of ``subject_consistency``, ``background_consistency``,
            ``motion_smoothness``, ``aesthetic_quality``, ``imaging_quality`` (these five are the
            default), ``temporal_flickering``, ``dynamic_degree``, ``temporal_style`` and
            ``overall_consistency``, separated by commas.
        clip_fps: frames per second of the clips; only ``dynamic_degree`` looks at it.
        local: whether VBench takes code and weights from its cache, ``VBENCH_CACHE_DIR``, only
            where it can.
        device: where VBench runs; empty: on CUDA if there is one, else on the CPU.

    Raises:
        RewardError: VBench is not installed or can't be imported, or an option is wrong.
    """

    card: ClassVar[RewardCard] = RewardCard(
        rewards="clips that hold their subject and background, move smoothly, and look good frame "
        "by frame. Which five dimensions these are is ddrl's choice: the DDRL paper's were not "
        "found out",
        range="about [0, 1], the mean of the dimensions",
        prompt="none; with `temporal_style` and `overall_consistency` all of it",
        hacks="a still picture is perfectly consistent and smooth: add `dynamic_degree`, 0 or 1 "
        "per clip, or a reward for motion",
        cost="a DINO ViT-B/16, a CLIP ViT-B/32, an AMT-S, a CLIP ViT-L/14 and a MUSIQ over all "
        "frames; VBench loads them again in every call, so score large batches",
        media=("clips",),
        license="Apache-2.0 (VBench); that of each model it downloads",
        weights="VBench 0.1.5 downloads them itself, and DINO's code. Not run here with weights: "
        "tested up to VBench's own calls. It needs transformers 4.33, NumPy 1 and setuptools below "
        "70, which the trainer can't have: serve it from an environment of its own",
        modules=("vbench", "av"),
        extra="vbench",
    )

    def __init__(
        self,
        *,
        dimensions: str = ",".join(DEFAULT),
        clip_fps: float = 16.0,
        local: bool = False,
        device: str = "",
    ) -> None:
        chosen = tuple(dict.fromkeys(name.strip() for name in dimensions.split(",")))
        for name in chosen:
            if name not in DIMENSIONS:
                raise ValueError(f"dimension {name!r} is none of {', '.join(DIMENSIONS)}")
        if not 0 < clip_fps < math.inf:
            raise ValueError("clip_fps must be above 0")
        self.card.require("vbench")
        self._dimensions, self._clip_fps, self._local = chosen, clip_fps, local
        self._device = pick_device(device)
        try:
            self._vbench = importlib.import_module("vbench").VBench
        except Exception as error:  # its imports are many, and old
            raise RewardError(
                f"Reward 'vbench' can't import VBench: {one_line(error)}.",
                hint='install "vbench==0.1.5", torchvision and "setuptools<70" into an environment '
                "of its own",
            ) from error

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, T, 3, H, W) -> (B,); NaN where a pixel is not finite.

        Raises:
            SampleError: VBench leaves a clip out.
            RewardError: VBench fails, or these are no clips of at least 3 frames.
        """
        if media.ndim != 5 or media.shape[2] != 3 or media.shape[1] < _LEAST_FRAMES:
            raise RewardError(
                f"Reward 'vbench' scores clips of shape (B, T, 3, H, W) with at least "
                f"{_LEAST_FRAMES} frames, not {tuple(media.shape)}.",
                hint="set data.frames to that number or more",
            )
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            raise RewardError(
                "Reward 'vbench' can't be in a process of a distributed run: VBench would share "
                "the clips out among its processes.",
                hint="serve it, and use it by the reward `remote`",
            )
        rows = media.detach().flatten(1).isfinite().all(1).nonzero().flatten().tolist()
        value = torch.full((len(media),), torch.nan)
        if not rows:
            return value
        with tempfile.TemporaryDirectory(prefix="ddrl-vbench-") as folder:
            found = self._evaluate(Path(folder), media[rows], [prompts.text[row] for row in rows])
        causes = {}
        for position, row in enumerate(rows):
            if missing := [name for name in self._dimensions if position not in found[name]]:
                causes[row] = f"VBench gives no {missing[0]} for the clip"
            else:
                each = [found[name][position] for name in self._dimensions]
                value[row] = sum(each) / len(each)
        if causes:
            raise SampleError(value, causes)
        return value

    def _evaluate(
        self, folder: Path, clips: Tensor, texts: Sequence[str]
    ) -> dict[str, dict[int, float]]:
        """Return the values by dimension and by the clip's number."""
        videos, output = folder / "clips", folder / "results"
        videos.mkdir()
        asked = {}
        for i, clip in enumerate(clips):
            path = videos / f"{i:06d}.mp4"
            write_clip(path, clip, fps=self._clip_fps)
            asked[path.name] = texts[i]
        try:
            with contextlib.redirect_stdout(sys.stderr):  # results go to stdout, and it prints
                self._vbench(self._device, "", str(output)).evaluate(
                    videos_path=str(videos),
                    name=_NAME,
                    prompt_list=asked,
                    dimension_list=list(self._dimensions),
                    local=self._local,
                    read_frame=False,
                    mode="custom_input",
                )
        except Exception as error:  # whatever it is: a download, an old pin, a full device
            raise RewardError(
                f"VBench fails: {type(error).__name__}: {one_line(error)}.",
                hint="it downloads its weights at first use; run `vbench evaluate` by hand to see",
            ) from error
        file = output / f"{_NAME}_eval_results.json"
        try:
            results = json.loads(file.read_text(encoding="utf-8"))
            return {name: read_results(results[name], name) for name in self._dimensions}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise RewardError(
                f"VBench's results are not in the form of version 0.1.5: "
                f"{type(error).__name__}: {error}.",
                hint='install "vbench==0.1.5"',
            ) from error


def read_results(result: Sequence[Any], dimension: str) -> dict[int, float]:
    """Read values by the clip's number from one dimension's entry ``[mean, [clip, ...]]``.

    Raises:
        ValueError, LookupError, TypeError: it has another form.
    """
    clips: Sequence[Mapping[str, Any]] = result[1]
    scale = _SCALE.get(dimension, 1.0)
    return {
        int(Path(str(clip["video_path"])).stem): scale * float(clip["video_results"])
        for clip in clips
    }


def write_clip(path: Path, clip: Tensor, *, fps: float) -> None:
    """Write pixels in [0, 1], shape (T, 3, H, W), as an H.264 MP4 without subsampling or loss."""
    with path.open("wb") as file:
        options = {"crf": "0", "preset": "veryfast"}
        frames = as_bytes(clip).numpy()
        write_mp4(file, frames, fps=fps, pix_fmt="yuv444p", options=options)
