"""The files of VideoReward: its configuration, and its weights with the LoRA merged.

The released folder holds ``model_config.json`` and ``checkpoint-*/model.pth``, a state dict of
all weights and the LoRA, in the names that transformers had before version 5.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ddrl.disk import may_be_hub_id
from ddrl.errors import WeightsError
from ddrl.rewards.networks.loading import UNREADABLE, loading, one_line
from ddrl.rewards.networks.qwen2vl import name_of_today
from ddrl.rewards.networks.weight_files import read_state


@dataclass(frozen=True)
class VideoRewardConfig:
    """What ``model_config.json`` says.

    Attributes:
        base: folder or hub id of the Qwen2-VL it was made from.
        fps: frames per second that are looked at.
        max_pixels: how many pixels a frame may have.
        output_dim: how many numbers the head gives: 1, or 3 of which each token has its own.
        lora_rank: 0 without LoRA.
        lora_scale: factor of the product of the two LoRA matrices.
        mean: means of VQ, MQ and TA over the authors' data.
        std: standard deviations of VQ, MQ and TA over the authors' data.
    """

    base: str
    fps: float
    max_pixels: int
    output_dim: int
    lora_rank: int
    lora_scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path) -> VideoRewardConfig:
        """Read ``model_config.json``.

        Raises:
            WeightsError: it is missing, broken, or of a model that is read in another way.
        """
        try:
            every = json.loads((folder / "model_config.json").read_text(encoding="utf-8"))
            data, model, lora = (
                every["data_config"],
                every["model_config"],
                every["peft_lora_config"],
            )
            norm = every["inference_config"]
            rank = int(lora["lora_r"]) if lora["lora_enable"] else 0
            root = math.sqrt(rank) if lora.get("use_rslora") else rank
            config = cls(
                base=str(model["model_name_or_path"]),
                fps=float(data["fps"]),
                max_pixels=int(data["max_frame_pixels"]),
                output_dim=int(model["output_dim"]),
                lora_rank=rank,
                lora_scale=float(lora["lora_alpha"]) / root if rank else 0.0,
                mean=tuple(float(norm[f"{name}_mean"]) for name in ("VQ", "MQ", "TA")),
                std=tuple(float(norm[f"{name}_std"]) for name in ("VQ", "MQ", "TA")),
            )
            how = (data["prompt_template_type"], data["sample_type"], model["use_special_tokens"])
        except UNREADABLE as error:
            raise WeightsError(
                f"{folder}/model_config.json can't be read: {one_line(error, 200)}.",
                hint="give the folder of VideoReward, with model_config.json and checkpoint-*",
            ) from error
        if how != ("detailed_special", "uniform", True) or config.output_dim not in (1, 3):
            raise WeightsError(
                f"{folder} is a VideoReward that is read in another way than the released one.",
                hint="ddrl knows the template detailed_special with reward tokens, and uniform "
                "frames",
            )
        return config


def find_folder(weights: str) -> Path:
    """Find the folder that is named, or download that of a hub id.

    Raises:
        WeightsError: there is none.
    """
    if Path(weights).is_dir():
        return Path(weights)
    if not may_be_hub_id(weights):
        raise WeightsError(
            f"There is no folder {weights}.", hint="or name owner/name of a model on the hub"
        )
    from huggingface_hub import snapshot_download

    wanted = ["model_config.json", "checkpoint-*/model.pth"]
    with loading(weights, "offline, download the model to a folder and name that folder"):
        return Path(snapshot_download(weights, allow_patterns=wanted))


def merge_lora(state: Mapping[str, Tensor], scale: float, rank: int) -> dict[str, Tensor]:
    """Translate names to today's, and put W + scale B A where there is a LoRA.

    Args:
        state: a checkpoint's weights.
        scale: factor of the LoRA.
        rank: rank of the LoRA.

    Raises:
        WeightsError: a LoRA is not of this rank, or only a half of one.
    """
    named = {name_of_today(name): value for name, value in state.items()}
    merged: dict[str, Tensor] = {}
    for name, value in named.items():
        layer, is_lora, _ = name.partition(".lora_")
        if is_lora and f"{layer}.base_layer.weight" in named:
            continue  # taken with its layer, below
        layer, has_lora, kind = name.partition(".base_layer.")
        if not has_lora:
            merged[name] = value
        elif kind != "weight":
            merged[f"{layer}.{kind}"] = value
        else:
            down, up = (named.get(f"{layer}.lora_{half}.default.weight") for half in "AB")
            if down is None or up is None or down.shape[0] != rank:
                raise WeightsError(
                    f"{layer} has no LoRA of rank {rank}, which model_config.json says it has.",
                    hint="take weights and model_config.json of one release",
                )
            change = scale * (up.float() @ down.float())
            merged[f"{layer}.weight"] = (value.float() + change).to(value.dtype)
    return merged


def read_checkpoint(folder: Path) -> dict[str, Tensor]:
    """Read the latest ``checkpoint-*/model.pth``, mapped where possible.

    Raises:
        WeightsError: there is none, or it is broken.
    """
    found = [path for path in folder.glob("checkpoint-*/model.pth") if path.is_file()]
    if not found:
        raise WeightsError(
            f"There is no checkpoint-*/model.pth in {folder}.",
            hint="a LoRA alone (adapter_model.safetensors) is not enough",
        )
    path = max(found, key=lambda path: int("".join(filter(str.isdigit, path.parent.name)) or 0))
    return read_state(path)
