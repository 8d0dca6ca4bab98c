"""Source images of edits, as pipelines take them: pictures of PIL, which they scale themselves."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from ddrl.errors import DataError


def as_pictures(pixels: Tensor) -> list[Image.Image]:
    """Pixels (U, 3, H, W) in [0, 1] as pictures of 8 bits."""
    levels = (pixels.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu()
    return [Image.fromarray(one.contiguous().numpy()) for one in levels]


def require_source(given: Tensor | None) -> Tensor:
    """The latents of source images.

    Raises:
        DataError: there are none.
    """
    if given is None:
        raise DataError("Editing needs a source image.", hint="encode(.., first_frames=)")
    return given
