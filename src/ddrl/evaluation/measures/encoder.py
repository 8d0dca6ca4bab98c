"""Features that samples and data are compared in, by an encoder that a report names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ddrl.disk import may_be_hub_id, read_json
from ddrl.errors import UsageError, WeightsError

_BATCH = 64
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Encoder:
    """Pictures to features.

    Attributes:
        name: what a report calls it.
        encode: pixels in [0, 1], shape (N, 3, H, W), to features (N, F).
    """

    name: str
    encode: Callable[[Tensor], NDArray[np.float64]]

    def features(self, media: Tensor) -> NDArray[np.float64]:
        """Features of images, or means over the frames of clips: (N, F)."""
        if media.ndim == 4:
            return self.encode(media)
        means: NDArray[np.float64] = self.frames(media).mean(1)
        return means

    def frames(self, clips: Tensor) -> NDArray[np.float64]:
        """Features of every frame of clips (N, T, 3, H, W): (N, T, F)."""
        encoded = self.encode(clips.flatten(0, 1))
        return encoded.reshape(*clips.shape[:2], -1)


def _check_place(path: str) -> None:
    """Refuse at once what is not there and can't be on the hub.

    Raises:
        WeightsError: it is.
    """
    if not Path(path).exists() and not may_be_hub_id(path):
        raise WeightsError(f"There is no folder {path} of an encoder.", hint=_TAKEN)


_TAKEN = 'evaluation.encoder takes a folder or hub id of a vision model, or "auto"'


@torch.no_grad()
def load_vision_encoder(path: str, *, device: torch.device | str = "cpu") -> Encoder:
    """Return a vision model of transformers (CLIP, SigLIP, DINOv2, ViT): its pooled features.

    Pictures are resized to the model's size on their shorter side (bicubic, antialiased), cut to
    the square in their middle, and normalised as the folder's ``preprocessor_config.json`` says;
    without that file, with CLIP's mean and std for CLIP and ImageNet's for others.

    Args:
        path: a folder that ``save_pretrained`` wrote, or a name on the hub.
        device: where it runs.

    Raises:
        UsageError: transformers isn't installed.
        WeightsError: it can't be loaded, or has no vision model.
    """
    try:
        from transformers import AutoModel
        from transformers.utils import cached_file
    except ImportError as error:
        raise UsageError(
            f"The encoder {path} needs transformers, which isn't installed.",
            hint='install the extra: pip install "ddrl[models]"',
        ) from error
    _check_place(path)
    try:
        loaded: Any = AutoModel.from_pretrained(path, trust_remote_code=False, dtype=torch.float32)
        file = cached_file(
            path, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False
        )
        settings = {} if file is None else read_json(Path(file))
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"The encoder {path} can't be loaded: {' '.join(str(error).split())[:200]}.",
            hint=_TAKEN,
        ) from error
    vision = getattr(loaded, "vision_model", loaded)
    vision.to(device).eval().requires_grad_(False)
    size = getattr(vision.config, "image_size", None)
    if not isinstance(size, int) or vision.main_input_name != "pixel_values":
        raise WeightsError(
            f"The encoder {path} is a {type(loaded).__name__}, which takes no pictures.",
            hint="name a vision model, such as CLIP or DINOv2",
        )
    fallback = _CLIP if "clip" in str(vision.config.model_type) else _IMAGENET
    mean = torch.tensor(settings.get("image_mean") or fallback[0], device=device)[:, None, None]
    std = torch.tensor(settings.get("image_std") or fallback[1], device=device)[:, None, None]

    @torch.no_grad()
    def encode(media: Tensor) -> NDArray[np.float64]:
        parts = []
        for start in range(0, len(media), _BATCH):
            rows = media[start : start + _BATCH].to(device).float()
            pixels = (_square(rows, size) - mean) / std
            output = vision(pixel_values=pixels)
            pooled = getattr(output, "pooler_output", None)
            parts.append(output.last_hidden_state.mean(1) if pooled is None else pooled)
        values: NDArray[np.float64] = torch.cat(parts).double().cpu().numpy()
        return values

    return Encoder(f"{type(loaded).__name__} {path}, pooled features at {size} px", encode)


def _square(media: Tensor, size: int) -> Tensor:
    """Pictures resized on their shorter side and cut to the middle: (N, 3, size, size)."""
    height, width = media.shape[-2:]
    scale = size / min(height, width)
    shape = (max(size, round(height * scale)), max(size, round(width * scale)))
    resized = F.interpolate(media, shape, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    return resized[..., top : top + size, left : left + size]
