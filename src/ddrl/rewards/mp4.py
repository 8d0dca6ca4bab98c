"""Clips as MP4 files that state their colour, so that players show the pixels that went in."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

# Numbers of ITU-T H.273: the colours of sRGB, and the matrix and range that FFmpeg converts to.
_STATED = {"color_primaries": 1, "color_trc": 13, "colorspace": 6, "color_range": 1}


def write_mp4(
    file: BinaryIO,
    frames: npt.NDArray[np.uint8],
    *,
    fps: float,
    pix_fmt: str,
    options: Mapping[str, str],
) -> None:
    """Write sRGB frames as H.264.

    Args:
        file: open for writing; can seek.
        frames: shape (T, H, W, 3).
        fps: frames per second.
        pix_fmt: pixel format of the stream; with ``yuv420p`` both sides must be even.
        options: options of x264.

    Raises:
        ImportError: PyAV is not installed.
    """
    av: Any = importlib.import_module("av")
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.options = pix_fmt, dict(options)
        for name, number in _STATED.items():
            setattr(stream.codec_context, name, number)
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pix_fmt, dst_colorspace="ITU601")))
        container.mux(stream.encode())
