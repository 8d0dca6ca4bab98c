"""Media as bytes on the wire, and back: exact arrays, PNG, MP4. Nothing is ever unpickled."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ddrl.rewards.http.server_words import quoted
from ddrl.rewards.mp4 import write_mp4
from ddrl.rewards.wire.format import WireError

Array = npt.NDArray[Any]
Encoding = Literal["safetensors", "png", "mp4"]

DTYPES = ("float32", "float16", "uint8")
"""Types of the numbers in a safetensors payload; bytes are levels, 255 = 1."""

MAX_NUMBERS = 2**28
"""Numbers in the media of one request: a small file can unpack to very much."""


_BLOCK = 64  # pixels: decoders round sizes up


def encode(media: Array, *, encoding: Encoding, fps: float) -> list[bytes]:
    """Write media as parts: one in all (safetensors), one per picture (png) or clip (mp4).

    Args:
        media: shape (B, 3, H, W) or (B, T, 3, H, W); pixels in [0, 1] or uint8 levels for
            safetensors, uint8 levels for the others.
        encoding: how. PNG keeps the levels, MP4 (H.264) does not.
        fps: frames per second of a clip (mp4 only).

    Raises:
        WireError: an image can't be a clip, or PyAV is missing.
    """
    if encoding == "safetensors":
        return [save({"media": np.ascontiguousarray(media)})]
    if encoding == "png":
        pictures = media.reshape(-1, *media.shape[-3:])
        return [_to_png(picture.transpose(1, 2, 0)) for picture in pictures]
    if media.ndim != 5:
        raise WireError("MP4 is for clips, not for images.", hint='encoding = "png"')
    return [_to_mp4(clip.transpose(0, 2, 3, 1), fps) for clip in media]


def count(shape: tuple[int, ...]) -> int:
    """Return how many numbers media of this shape have.

    Raises:
        WireError: it is no shape of media, or they are too many.
    """
    if len(shape) not in (4, 5) or shape[-3] != 3 or min(shape) < 1:
        raise WireError(f"the shape {list(shape)} is neither (B, 3, H, W) nor (B, T, 3, H, W)")
    numbers = math.prod(shape)
    if numbers > MAX_NUMBERS:
        raise WireError(f"the media has {numbers} numbers, above the limit of {MAX_NUMBERS}")
    return numbers


def decode(
    parts: Sequence[bytes], *, encoding: Encoding, shape: tuple[int, ...], dtype: str
) -> Array:
    """Read media: the inverse of :func:`encode`.

    Args:
        parts: as written.
        encoding: how they were.
        shape: what they are said to be, (B, 3, H, W) or (B, T, 3, H, W).
        dtype: type of the numbers in a safetensors payload.

    Returns:
        float32 pixels, where levels are divided by 255.

    Raises:
        WireError: they are something else, are cut off, or too large.
    """
    numbers = count(shape)
    wanted = {"safetensors": 1, "png": numbers // (3 * shape[-2] * shape[-1]), "mp4": shape[0]}
    if len(parts) != wanted[encoding]:
        raise WireError(f"there are {len(parts)} parts, not {wanted[encoding]}")
    if encoding == "safetensors":
        return _as_pixels(_from_safetensors(parts[0], shape, dtype))
    height, width = shape[-2:]
    if encoding == "png":
        pictures = [_from_png(part, i, height, width) for i, part in enumerate(parts)]
        return _as_pixels(np.stack(pictures).transpose(0, 3, 1, 2).reshape(shape))
    if len(shape) != 5:
        raise WireError("MP4 is for clips, not for images")
    clips = [_from_mp4(part, i, shape[1:]) for i, part in enumerate(parts)]
    return _as_pixels(np.stack(clips).transpose(0, 1, 4, 2, 3))


def _as_pixels(media: Array) -> Array:
    if media.dtype == np.uint8:
        return np.ascontiguousarray(media, dtype=np.float32) / np.float32(255)
    return np.ascontiguousarray(media, dtype=np.float32)


def _from_safetensors(part: bytes, shape: tuple[int, ...], dtype: str) -> Array:
    try:
        tensors = load(part)
    except (SafetensorError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise WireError(f"the payload is no safetensors file ({quoted(error)})") from error
    media = tensors.get("media")
    if media is None or media.shape != shape or str(media.dtype) != dtype:
        found = {name: (str(one.dtype), list(one.shape)) for name, one in tensors.items()}
        raise WireError(f"the payload holds {quoted(found)}, not media of {dtype} {list(shape)}")
    return media


def _to_png(picture: Array) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def _from_png(part: bytes, number: int, height: int, width: int) -> Array:
    try:
        with Image.open(io.BytesIO(part), formats=["PNG"]) as image:
            if image.size != (width, height):  # known before a pixel is unpacked
                size = f"{image.width} x {image.height}"
                raise WireError(f"picture {number} is {size}, not {width} x {height}")
            return np.asarray(image.convert("RGB"))
    except WireError:
        raise
    except Exception as error:  # Pillow has many ways to say that a file is broken
        raise WireError(f"picture {number} is no PNG file, or cut off ({quoted(error)})") from error


def _to_mp4(frames: Array, fps: float) -> bytes:
    _av()
    file = io.BytesIO()
    even = frames.shape[1] % 2 == 0 and frames.shape[2] % 2 == 0
    # Half of an odd number is no size.
    pix_fmt = "yuv420p" if even else "yuv444p"
    write_mp4(file, frames, fps=fps, pix_fmt=pix_fmt, options={"crf": "18"})
    return file.getvalue()


def _from_mp4(part: bytes, number: int, shape: tuple[int, ...]) -> Array:
    av = _av()
    length, _, height, width = shape
    frames: list[Array] = []
    try:
        with av.open(io.BytesIO(part), "r", format="mp4") as container:
            codec = container.streams.video[0].codec_context
            _check_size(codec, number, height, width)
            # Frames may be larger than the header says: none is unpacked that could not be right.
            limit = (height + 2 * _BLOCK) * (width + 2 * _BLOCK)
            codec.options = {**codec.options, "max_pixels": str(limit)}
            for frame in _at_most(container.decode(video=0), length + 1):
                _check_size(frame, number, height, width)
                frames.append(frame.to_ndarray(format="rgb24"))
    except WireError:
        raise
    except Exception as error:  # PyAV has many ways to say that a file is broken
        raise WireError(f"clip {number} is no MP4 file, or cut off ({quoted(error)})") from error
    if len(frames) != length:
        more = "more than " if len(frames) > length else ""
        found = f"{more}{min(len(frames), length)}"
        raise WireError(f"clip {number} has {found} frames, not {length}")
    return np.stack(frames)


def _check_size(found: Any, number: int, height: int, width: int) -> None:  # noqa: ANN401
    if (found.width, found.height) != (width, height):
        size = f"{found.width} x {found.height}"
        raise WireError(f"clip {number} is {size}, not {width} x {height}")


def _at_most(frames: Any, count: int) -> Iterator[Any]:  # noqa: ANN401 - PyAV has no types
    for _, frame in zip(range(count), frames, strict=False):
        yield frame


def _av() -> Any:  # noqa: ANN401 - PyAV has no types
    """Return the module, or say how it is installed."""
    try:
        import av
    except ImportError as error:
        raise WireError("MP4 needs PyAV.", hint="pip install 'ddrl[models]'") from error
    return av
