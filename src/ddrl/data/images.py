"""Still images by Pillow: whatever mode they are stored in, they come out as 8-bit RGB."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from ddrl.data.formats import is_video, sniff
from ddrl.data.framing import DEFAULT_MAX_PIXELS, as_tensor, check_size
from ddrl.data.locators import Locator, locate
from ddrl.data.problems import BrokenFileError, no_memory

__all__ = ["image_size", "read_image"]

_ORIENTATION = 0x0112  # the EXIF tag
_TURNED = frozenset({5, 6, 7, 8})  # its values that exchange height and width
_WHITE = (255, 255, 255, 255)


def read_image(source: Locator | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Tensor:
    """Read an image; of an animated one, the first frame.

    EXIF orientation is applied, CMYK and palettes become RGB (without colour management), what
    is transparent is laid on white, 16 bits are rounded to 8.

    Args:
        source: a png, jpeg or webp, told by its content and not by its name.
        max_pixels: an image with more is refused without being decoded.

    Returns:
        uint8, shape (3, H, W).

    Raises:
        BrokenFileError: it is truncated, too large, or no image; the file is named.
    """
    locator = locate(source)
    with locator.open() as file, _opened(locator, file, max_pixels) as image:
        image.load()
        return as_tensor(_to_rgb(ImageOps.exif_transpose(image)))


def image_size(source: Locator | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[int, int]:
    """Return height and width as :func:`read_image` gives them, without decoding.

    Raises:
        BrokenFileError: the file's head is broken, it is too large, or no image.
    """
    locator = locate(source)
    with locator.open() as file, _opened(locator, file, max_pixels) as image:
        turned = image.getexif().get(_ORIENTATION) in _TURNED
        return (image.width, image.height) if turned else (image.height, image.width)


@contextmanager
def _opened(locator: Locator, file: BinaryIO, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image lazily; whatever goes wrong with it inside names the file."""
    media_format = sniff(locator, file)
    if is_video(media_format):
        raise BrokenFileError(locator.name, "wrong_extension", f"is no image, but {media_format}")
    try:
        with warnings.catch_warnings():
            # The limit here is ours. Pillow warns of smaller images than a user may want.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=(media_format,)) as image:
                check_size(locator.name, image.height, image.width, max_pixels)
                yield image
    except BrokenFileError:
        raise
    except Image.DecompressionBombError as error:
        message = "has more pixels than Pillow opens"
        raise BrokenFileError(locator.name, "too_large", message, hint="scale it down") from error
    except MemoryError as error:
        raise no_memory(locator.name) from error
    except Exception as error:  # over a broken file a decoder may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        message = f"is a broken or truncated {media_format} ({reason})"
        raise BrokenFileError(locator.name, "broken", message) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow would clip it at 255
        transparent = image.info.get("transparency")
        wide = np.asarray(image).astype(np.float64)
        grey = np.rint(wide.clip(0, 65535) / 257).astype(np.uint8)
        if isinstance(transparent, int):
            grey[wide == transparent] = 255
        return Image.fromarray(grey).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    picture = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, _WHITE), picture).convert("RGB")
