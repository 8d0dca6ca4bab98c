"""The processor of Qwen2.5-VL, or what of it pipelines call where torchvision is missing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from PIL import Image

HAS_TORCHVISION = find_spec("torchvision") is not None
IMAGE = "<|image_pad|>"


class _Processor:
    """Pictures by the real image processor; as many tokens as it makes patches of, 2x2 each."""

    def __init__(self, tokenizer: Any) -> None:
        from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as pil

        self.image_processor, self.tokenizer = pil.Qwen2VLImageProcessorPil(), tokenizer

    def __call__(
        self, *, text: Sequence[str], images: Any, padding: bool, return_tensors: str
    ) -> Any:
        pictures = [images] if isinstance(images, Image.Image) else list(images)
        seen = self.image_processor(images=pictures, return_tensors=return_tensors)
        numbers = (int(grid.prod()) // 4 for grid in seen["image_grid_thw"])
        (only,) = text
        for number in numbers:
            only = only.replace(IMAGE, "<|here|>" * number, 1)
        words = only.replace("<|here|>", IMAGE)
        found = self.tokenizer([words], padding=padding, return_tensors=return_tensors)
        found.update(seen)
        return found


def processor(tokenizer: Any) -> Any:
    """For a tokenizer that knows the tokens of pictures."""
    if not HAS_TORCHVISION:
        return _Processor(tokenizer)
    from transformers import Qwen2VLProcessor
    from transformers.models.qwen2_vl import image_processing_qwen2_vl as images
    from transformers.models.qwen2_vl import video_processing_qwen2_vl as videos

    parts = (images.Qwen2VLImageProcessor(), tokenizer, videos.Qwen2VLVideoProcessor())
    return Qwen2VLProcessor(*parts)
