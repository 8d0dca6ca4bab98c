"""Changes of pictures and clips that a reward ought to notice, or ought not to like.

All take pixels in [0, 1] of shape (..., 3, H, W), a picture per place of what comes before, and
return new ones of the same shape in [0, 1]; those of time take (B, T, 3, H, W).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ddrl.rewards.frames import as_bytes
from ddrl.seeding import generator

_LUMA = (0.299, 0.587, 0.114)  # of ITU-R BT.601


def blur(media: Tensor, sigma: float | None = None) -> Tensor:
    """Gaussian blur; pixels beyond the edge are those at the edge.

    Args:
        media: pixels.
        sigma: standard deviation in pixels; None: 4 % of the shorter side, at least 0.8.
    """
    if sigma is None:
        sigma = max(0.8, 0.04 * min(media.shape[-2:]))
    reach = int(4 * sigma + 0.5)
    at = torch.arange(-reach, reach + 1, device=media.device, dtype=media.dtype)
    weights = torch.exp(-(at**2) / (2 * sigma**2))
    weights /= weights.sum()
    planes = media.reshape(-1, 1, *media.shape[-2:])
    padded = F.pad(planes, (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, weights.reshape(1, 1, -1, 1))
    return F.conv2d(rows, weights.reshape(1, 1, 1, -1)).reshape(media.shape).clamp(0, 1)


def jpeg(media: Tensor, quality: int = 10) -> Tensor:
    """Each picture through a JPEG file.

    Args:
        media: pixels.
        quality: of Pillow's scale from 1 to 95.
    """
    frames = as_bytes(media)
    decoded = [
        _through_jpeg(frame.numpy(), quality) for frame in frames.reshape(-1, *frames.shape[-3:])
    ]
    pixels = torch.stack(decoded).movedim(-1, -3).reshape(media.shape)
    return pixels.to(media) / 255


def _through_jpeg(frame: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], quality: int) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, format="JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file).convert("RGB")))


def noise(media: Tensor, scale: float = 0.1) -> Tensor:
    """Add Gaussian noise, cut off at black and white; the same noise for the same shape.

    Args:
        media: pixels.
        scale: standard deviation.
    """
    drawn = torch.randn(media.shape, generator=generator(0, "reward-audit-noise"))
    return (media + scale * drawn.to(media)).clamp(0, 1)


def saturate(media: Tensor, factor: float) -> Tensor:
    """Move colours away from grey of the same brightness, or towards it.

    Args:
        media: pixels.
        factor: 0 gives grey, 1 changes nothing.
    """
    grey = (media * torch.tensor(_LUMA).to(media)[:, None, None]).sum(-3, keepdim=True)
    return (grey + factor * (media - grey)).clamp(0, 1)


def brighten(media: Tensor, amount: float) -> Tensor:
    """Add to every pixel, cut off at black and white."""
    return (media + amount).clamp(0, 1)


def blank(media: Tensor) -> Tensor:
    """The mean colour of each picture, or frame, everywhere in it."""
    return media.mean((-2, -1), keepdim=True).expand_as(media).contiguous()


def centre_crop(media: Tensor, share: float = 0.8) -> Tensor:
    """The middle, enlarged to the whole size by bilinear interpolation.

    Args:
        media: pixels.
        share: of height and width that is kept.
    """
    pictures = media.reshape(-1, *media.shape[-3:])
    theta = torch.tensor([[share, 0.0, 0.0], [0.0, share, 0.0]]).to(media)
    grid = F.affine_grid(
        theta.expand(len(pictures), 2, 3), list(pictures.shape), align_corners=False
    )
    cropped = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    return cropped.reshape(media.shape).clamp(0, 1)


def flip(media: Tensor) -> Tensor:
    """Left and right exchanged."""
    return media.flip(-1)


def reverse(media: Tensor) -> Tensor:
    """The frames from the last to the first."""
    return media.flip(1)


def freeze(media: Tensor) -> Tensor:
    """The first frame, as often as there are frames."""
    return media[:, :1].expand_as(media).contiguous()


def half_rate(media: Tensor) -> Tensor:
    """Every second frame, twice."""
    return media[:, torch.arange(media.shape[1], device=media.device) // 2 * 2]


@dataclass(frozen=True)
class Transform:
    """A change with its name.

    Attributes:
        name: in JSON.
        label: in tables.
        apply: pixels to pixels of the same shape.
        clips_only: whether it changes time.
    """

    name: str
    label: str
    apply: Callable[[Tensor], Tensor]
    clips_only: bool = False


TRANSFORMS: tuple[Transform, ...] = (
    Transform("blur", "blurred", blur),
    Transform("jpeg", "JPEG of quality 10", jpeg),
    Transform("noise", "noise", noise),
    Transform("saturation_up", "saturation x 2", lambda media: saturate(media, 2.0)),
    Transform("saturation_down", "saturation x 0.5", lambda media: saturate(media, 0.5)),
    Transform("brightness_up", "brighter by 0.15", lambda media: brighten(media, 0.15)),
    Transform("brightness_down", "darker by 0.15", lambda media: brighten(media, -0.15)),
    Transform("grey", "grey", lambda media: saturate(media, 0.0)),
    Transform("blank", "blank: its mean colour", blank),
    Transform("centre_crop", "middle 80 %, enlarged", centre_crop),
    Transform("flip", "left and right exchanged", flip),
    Transform("reversed", "reversed", reverse, clips_only=True),
    Transform("frozen", "frozen: its first frame", freeze, clips_only=True),
    Transform("half_rate", "half the frame rate", half_rate, clips_only=True),
)
"""What an audit scores beside the originals, in the order of its table."""
