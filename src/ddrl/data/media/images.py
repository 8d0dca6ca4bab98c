"""Still images by Pillow: whatever mode they are stored in, they come out as 8-bit sRGB."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from ddrl.data.locators import Locator, locate
from ddrl.data.media.formats import is_image, sniff
from ddrl.data.media.framing import DEFAULT_MAX_PIXELS, as_tensor, check_size
from ddrl.data.problems import BrokenFileError, Problem, ProblemKind, no_memory

logger = logging.getLogger(__name__)

_ORIENTATION = 0x0112  # the EXIF tag
_TURNED = frozenset({5, 6, 7, 8})  # its values that exchange height and width
_WHITE = (255, 255, 255, 255)
_ANIMATED = frozenset({"PNG", "WEBP", "GIF"})  # others hold previews or layers
_SRGB_GAMMA = 0.45455  # that a PNG states for what needs no correction


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        pixels: uint8, shape (3, H, W).
        notes: what is worth knowing.
    """

    pixels: Tensor
    notes: tuple[Problem, ...]


def read_picture(source: Locator | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """Read an image; of an animated one, the first frame.

    EXIF orientation is applied, a colour profile is converted to sRGB, CMYK and palettes become
    RGB, what is transparent is laid on white, 16 bits are rounded to 8.

    Args:
        source: a png, jpeg, webp or gif, told by its content and not by its name.
        max_pixels: an image with more is refused without being decoded.

    Raises:
        BrokenFileError: it is truncated, too large, or no image; the file is named.
    """
    locator = locate(source)
    notes: list[Problem] = []

    def note(kind: ProblemKind, message: str) -> None:
        notes.append(Problem(locator.name, kind, message))

    with locator.open() as file, _opened(locator, file, max_pixels) as (image, warned):
        if image.format in _ANIMATED and getattr(image, "is_animated", False):
            note("animation", "is an animation, of which the first frame is used")
        image.load()
        pixels = as_tensor(_to_srgb(ImageOps.exif_transpose(image), note))
        for message in dict.fromkeys(str(one.message) for one in warned):
            note("decoder_warning", f"is read with a warning: {' '.join(message.split())}")
    return Picture(pixels, tuple(notes))


def read_image(source: Locator | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Tensor:
    """Return the pixels of :func:`read_picture`, uint8, shape (3, H, W); its notes are logged.

    Raises:
        BrokenFileError: it is truncated, too large, or no image; the file is named.
    """
    picture = read_picture(source, max_pixels=max_pixels)
    for note in picture.notes:
        logger.info("%s", note)
    return picture.pixels


def image_size(source: Locator | Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[int, int]:
    """Return height and width as :func:`read_image` gives them, without decoding.

    Raises:
        BrokenFileError: the file's head is broken, it is too large, or no image.
    """
    locator = locate(source)
    with locator.open() as file, _opened(locator, file, max_pixels) as (image, _):
        turned = image.getexif().get(_ORIENTATION) in _TURNED
        return (image.width, image.height) if turned else (image.height, image.width)


@contextmanager
def _opened(
    locator: Locator, file: BinaryIO, max_pixels: int
) -> Iterator[tuple[Image.Image, list[warnings.WarningMessage]]]:
    """Open an image lazily, and collect warnings; what goes wrong with it inside names the file."""
    media_format = sniff(locator, file)
    if not is_image(media_format):
        raise BrokenFileError(locator.name, "wrong_extension", f"is no image, but {media_format}")
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            # The limit here is ours. Pillow warns of smaller images than a user may want.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=(media_format,)) as image:
                check_size(locator.name, image.height, image.width, max_pixels)
                yield image, warned
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


def _to_srgb(image: Image.Image, note: Callable[[ProblemKind, str], None]) -> Image.Image:
    """Return an image as 8-bit sRGB on white; a colour profile that can't be used is noted."""
    profile = image.info.get("icc_profile")
    gamma = image.info.get("gamma")
    if profile:
        try:
            return _on_white(_converted(_eight_bits(image), profile))
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            note("colour_profile", f"has a colour profile that can't be applied ({reason})")
    elif gamma and "srgb" not in image.info and abs(gamma - _SRGB_GAMMA) > 0.01:
        note("colour_profile", f"states a gamma of {gamma:.4g}, which is not applied")
    return _on_white(_eight_bits(image))


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    """Return an image whose numbers a profile explains, as sRGB with the same alpha.

    Raises:
        PyCMSError, OSError, ValueError, TypeError: the profile is broken, or of another mode.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    if space == "RGB" and "sRGB" in (source.profile.profile_description or ""):
        return image  # converting would only round
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space, "")
    if not mode or (mode == "CMYK") != (image.mode == "CMYK"):
        raise ValueError(f"it is for {space}, the picture is {image.mode}")
    if mode == "L" and image.mode not in {"1", "L", "LA"}:
        raise ValueError(f"it is for {space}, the picture is {image.mode}")
    converted = ImageCms.profileToProfile(
        image.convert(mode), source, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    if converted is None:
        raise ValueError("no reason is given")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of whatever mode, but of 8 bits."""
    if not image.mode.startswith("I"):
        return image
    # 16-bit grey; Pillow would clip it at 255.
    transparent = image.info.get("transparency")
    wide = np.asarray(image).astype(np.float64)
    grey = np.rint(wide.clip(0, 65535) / 257).astype(np.uint8)
    if isinstance(transparent, int):
        grey[wide == transparent] = 255
    return Image.fromarray(grey)


def _on_white(image: Image.Image) -> Image.Image:
    """Return an image as RGB, its transparent parts on white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    picture = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, _WHITE), picture).convert("RGB")
