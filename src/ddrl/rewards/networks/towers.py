"""Two towers, one for texts and one for images, whose outputs are compared by their cosine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.rewards.frames import Runtime, as_levels
from ddrl.rewards.networks.loading import (
    check_keys,
    load_images,
    load_model,
    load_tokenizer,
    loading,
)

_MODES = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers for resampling


class TextImageModel:
    """A CLIP or SigLIP of transformers, with the preprocessing of its image processor.

    Args:
        weights: a folder written by ``save_pretrained``, or a hub id.
        runtime: where and how it runs.
        processor: where tokenizer and image processor are; empty: with the weights.

    Raises:
        WeightsError: they can't be read, are incomplete, or are of another kind of model.
    """

    def __init__(self, weights: str, runtime: Runtime, *, processor: str = "") -> None:
        self._runtime = runtime
        source = processor or weights
        with loading(
            f"{weights} (processor: {source})",
            "offline, download what is named here to folders and name those",
        ):
            self._tokenizer = load_tokenizer(
                source, "name the folder or hub id that has them with the option processor"
            )
            self._model = self._read(weights)
            self._images = self._read_image_processor(source)
        if not hasattr(self._model, "get_image_features"):
            raise WeightsError(
                f"{weights} holds a {type(self._model).__name__}, which has no image tower.",
                hint="give the weights of a CLIP or SigLIP",
            )
        self._model.to(runtime.device).eval().requires_grad_(False)
        self._length = int(self._model.config.text_config.max_position_embeddings)

    def _read(self, weights: str) -> Any:  # noqa: ANN401 - transformers is untyped
        """Read the model; a subclass may read other files."""
        import transformers

        model, info = load_model(transformers.AutoModel, weights, self._runtime.dtype)
        if hasattr(model, "get_image_features"):  # else it is of another kind, which comes first
            check_keys(weights, list(info["missing_keys"]), list(info["unexpected_keys"]))
        return model

    def _read_image_processor(self, source: str) -> Any:  # noqa: ANN401
        """Read what :meth:`_pixels` needs."""
        return load_images(source)

    def _pixels(self, images: Tensor) -> Tensor:
        """Return what the image tower takes, of pixels in [0, 1]."""
        return preprocess(images, self._images)

    @property
    def image_size(self) -> int:
        """Height and width of what the image tower takes."""
        return int(self._model.config.vision_config.image_size)

    @property
    def width(self) -> int:
        """How many numbers the features have."""
        return int(self._model.config.projection_dim)

    @property
    def logit_scale(self) -> float:
        """The factor of the cosine that the model was trained with."""
        return float(self._model.logit_scale.float().exp())

    @torch.no_grad()
    def cosine(self, frames: Tensor, texts: Sequence[str]) -> Tensor:
        """Pixels in [0, 1], shape (B, F, 3, H, W), and B texts -> cosines (B, F), on the CPU."""
        image = self.image_features(frames)
        distinct = list(dict.fromkeys(texts))  # a group shares its text
        text = torch.cat(
            [self._encode(distinct[rows]) for rows in self._runtime.slices(len(distinct))]
        )
        row = {name: i for i, name in enumerate(distinct)}
        text = text[[row[name] for name in texts]]
        return torch.einsum("bfd,bd->bf", image, text)

    @torch.no_grad()
    def image_features(self, frames: Tensor) -> Tensor:
        """Pixels in [0, 1], shape (B, F, 3, H, W) -> features of length 1 (B, F, D), on the CPU."""
        images = frames.flatten(0, 1)
        pieces = [self._encode_images(images[rows]) for rows in self._runtime.slices(len(images))]
        return torch.cat(pieces).reshape(*frames.shape[:2], -1)

    def _encode_images(self, images: Tensor) -> Tensor:
        pixels = self._pixels(images.to(self._runtime.device)).to(self._runtime.dtype)
        return _unit(self._model.get_image_features(pixel_values=pixels))

    def _encode(self, texts: list[str]) -> Tensor:
        # Padded to the full length always, and without a mask: SigLIP was trained so, and CLIP
        # looks at nothing behind a text's end. No text depends on its neighbours in the batch.
        tokens = self._tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        )
        ids = tokens["input_ids"].to(self._runtime.device)
        return _unit(self._model.get_text_features(input_ids=ids))


def _unit(output: Any) -> Tensor:  # noqa: ANN401 - transformers is untyped
    """Return the pooled features, at length 1, float32 on the CPU."""
    features = output if isinstance(output, Tensor) else output.pooler_output
    return F.normalize(features.float(), dim=-1).cpu()


def preprocess(images: Tensor, processor: Any) -> Tensor:  # noqa: ANN401 - transformers is untyped
    """Do what an image processor of transformers does, with tensors and on their device.

    Horizontally and then vertically with rounding in between, as Pillow resizes: off from it by
    at most 2 of 255 levels, and by less than 0.02 levels in the mean.

    Args:
        images: pixels in [0, 1], shape (N, 3, H, W).
        processor: gives sizes, resampling, crop, mean and std.

    Returns:
        Shape (N, 3, h, w), float32.
    """
    levels = as_levels(images)
    if processor.do_resize:
        height, width = _resized(images.shape[-2], images.shape[-1], processor.size)
        levels = resize_levels(levels, (height, width), _MODES[int(processor.resample)])
    if processor.do_center_crop:
        rows, columns = processor.crop_size["height"], processor.crop_size["width"]
        top, left = (levels.shape[-2] - rows) // 2, (levels.shape[-1] - columns) // 2
        levels = levels[..., top : top + rows, left : left + columns]
    mean, std = (
        torch.tensor(tuple(value), device=images.device)[:, None, None]
        for value in (processor.image_mean, processor.image_std)
    )
    return (levels / 255 - mean) / std


def _resized(height: int, width: int, size: Any) -> tuple[int, int]:  # noqa: ANN401
    """Height and width after the resize that ``size`` asks for."""
    if edge := size.get("shortest_edge"):
        if height <= width:
            return int(edge), int(edge * width / height)
        return int(edge * height / width), int(edge)
    return int(size["height"]), int(size["width"])


def resize_levels(levels: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize levels from 0 to 255, shape (N, C, H, W), in two passes as Pillow does."""
    levels = _resize(levels, (levels.shape[-2], size[1]), mode)
    return _resize(levels, size, mode)


def _resize(levels: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    if tuple(levels.shape[-2:]) == size:
        return levels
    smooth = mode != "nearest-exact"
    return F.interpolate(levels, size, mode=mode, antialias=smooth).round().clamp(0, 255)
