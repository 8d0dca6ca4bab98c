"""Makes tiny media of odd kinds, whose pixels are known without a decoder."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]

FPS = 10
SIDE = 32
# Kr and Kb of the matrices, by their number in ITU-T H.273.
MATRICES = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}


def tags(
    matrix: int = 1, transfer: int = 1, primaries: int = 1, *, full: bool = False
) -> dict[str, int]:
    """What a clip states of its colour, in numbers of ITU-T H.273."""
    return {
        "colorspace": matrix,
        "color_trc": transfer,
        "color_primaries": primaries,
        "color_range": 2 if full else 1,
    }


def ycbcr(
    rgb: Sequence[float], *, matrix: int = 1, bits: int = 8, full: bool = False
) -> tuple[int, int, int]:
    """Luma and chroma of a colour in [0, 1], as integers."""
    kr, kb = MATRICES[matrix]
    red, green, blue = rgb
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    unit, top = 1 << (bits - 8), (1 << bits) - 1
    if full:
        values = (luma * top, cb * top + 128 * unit, cr * top + 128 * unit)
    else:
        values = ((16 + 219 * luma) * unit, (128 + 224 * cb) * unit, (128 + 224 * cr) * unit)
    y, u, v = (min(round(value), top) for value in values)
    return y, u, v


def flat(colour: Sequence[int], pix_fmt: str, *, width: int, height: int) -> av.VideoFrame:
    """A planar frame of one colour, a number for each plane."""
    frame = av.VideoFrame(width, height, pix_fmt)
    dtype = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    for plane, value in zip(frame.planes, colour, strict=True):
        plane.update(np.full(plane.buffer_size // dtype().itemsize, value, dtype).tobytes())
    return frame


def write_flat(
    path: Path,
    rgb: Sequence[float] = (1, 0, 0),
    *,
    matrix: int = 1,
    full: bool = False,
    pix_fmt: str = "yuv420p",
    alpha: float | None = None,
    width: int = SIDE,
    height: int = SIDE,
    **how: Any,  # of write_frames
) -> Path:
    """A clip of one colour in [0, 1]; ``matrix`` is how it is stored, and need not be stated."""
    bits = 10 if "10" in pix_fmt else 8
    numbers = [*ycbcr(rgb, matrix=matrix, bits=bits, full=full)]
    if alpha is not None:
        numbers.append(round(alpha * ((1 << bits) - 1)))
    frames = [flat(numbers, pix_fmt, width=width, height=height) for _ in range(4)]
    return write_frames(path, frames, **how)


def write_frames(
    path: Path,
    frames: Sequence[av.VideoFrame],
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    form: str | None = None,
    aspect: Fraction | None = None,
    tags: dict[str, int] | None = None,
) -> Path:
    """A clip of frames; ``tags`` are what it states of its colour."""
    with av.open(str(path), "w", format=form, options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = frames[0].format.name
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        lossless = {"libx264": {"qp": "0"}, "libx265": {"x265-params": "lossless=1:log-level=0"}}
        stream.options = options or lossless.get(codec, {})
        for number, frame in enumerate(frames):
            for name, value in (tags or {}).items():
                setattr(frame, name, value)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def moving(number: int = 16, *, side: int = SIDE) -> list[av.VideoFrame]:
    """Frames whose level tells their number, :func:`numbers`, with noise that moves in a corner."""
    noise = np.random.default_rng(0).integers(0, 256, (side // 2, side // 2, 3), np.uint8)
    frames = []
    for index in range(number):
        picture = np.full((side, side, 3), 16 + 12 * index, np.uint8)
        picture[: side // 2, : side // 2] = np.roll(noise, index, axis=1)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frames.append(frame.reformat(format="yuv420p"))
    return frames


def numbers(clip: Pixels) -> list[int]:
    """Which frames of :func:`moving` the frames of a clip are, shape (T, 3, H, W)."""
    side = clip.shape[-1]
    levels = clip[:, :, side // 2 + 4 :, side // 2 + 4 :].astype(float).mean((1, 2, 3))
    return [round((level - 16) / 12) for level in levels]


def write_with_others(path: Path, *, cover: bool = False) -> Path:
    """A clip of :func:`moving` frames with sound that lasts longer, or the cover of an album."""
    with av.open(str(path), "w") as container:
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width = picture.height = 2 * SIDE
            picture.pix_fmt = "yuvj420p"
            picture.disposition = 1 << 10  # attached
        stream = container.add_stream("libx264", rate=FPS)
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "5"}
        sound = container.add_stream("aac", rate=8000, layout="mono")
        if cover:
            frame = av.VideoFrame(2 * SIDE, 2 * SIDE, "yuvj420p")
            frame.pts, frame.time_base = 0, Fraction(1)
            container.mux([*picture.encode(frame), *picture.encode()])
        for number, frame in enumerate(moving()):
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for number in range(20):
            silence = np.zeros((1, 1024), np.float32)
            noise = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            noise.rate, noise.pts = 8000, number * 1024
            container.mux(sound.encode(noise))
        container.mux(sound.encode())
    return path


# Key frames every 8, and after the first of them pictures that come before it, and need others.
OPEN_GROUPS = "open-gop=1:keyint=8:min-keyint=8:scenecut=0:bframes=2:b-adapt=0"


def write_groups(path: Path, *, codec: str = "libx264", number: int = 16) -> Path:
    """A clip of :func:`moving` frames with a key frame at 0 and 8."""
    options = {
        "libx264": {"x264-params": OPEN_GROUPS, "crf": "5"},
        "libx265": {"x265-params": f"{OPEN_GROUPS}:log-level=0:crf=5"},
        "mpeg4": {"g": "8", "sc_threshold": "1000000000", "b": "9M"},
    }
    fallback = {"g": "8", "crf": "5", "cpu-used": "8"}
    return write_frames(path, moving(number), codec=codec, options=options.get(codec, fallback))


def recut(
    source: Path,
    path: Path,
    *,
    skip: int = 0,
    without: int | None = None,
    earlier: int = 0,
    hold: int = 1,
    change: Callable[[bytes], bytes] | None = None,
    changed: int = 0,
) -> Path:
    """Copy a clip without encoding it again.

    Args:
        source: the clip.
        path: the copy.
        skip: how many packets are left out at the start.
        without: one that is left out.
        earlier: how many frames lie before zero, as an edit list puts them.
        hold: for how many frames the last one is shown.
        change: done to the content of a packet.
        changed: which.
    """
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        shift = round(earlier / FPS / stream.time_base)
        packets = [packet for packet in old.demux(stream) if packet.size]
        for number, packet in enumerate(packets):
            if number < skip or number == without:
                continue
            made = packet
            if change is not None and number == changed:
                made = av.Packet(change(bytes(packet)))
                made.pts, made.dts, made.time_base = packet.pts, packet.dts, packet.time_base
                made.is_keyframe = packet.is_keyframe
            made.pts, made.dts, made.stream = made.pts - shift, made.dts - shift, copy
            if number == len(packets) - 1:
                made.duration = round(hold / FPS / stream.time_base)
            new.mux(made)
    return path


def set_matrix(path: Path, turn: tuple[float, float, float, float]) -> Path:
    """Write a display matrix (a, b, c, d) into an MP4 that has none."""
    one = 1 << 16
    content = path.read_bytes()
    upright = struct.pack(">5i", one, 0, 0, 0, one)
    place = content.index(upright, content.index(b"tkhd"))
    a, b, c, d = (round(number * one) for number in turn)
    turned = struct.pack(">5i", a, b, 0, c, d)
    path.write_bytes(content[:place] + turned + content[place + len(turned) :])
    return path


def profile(space: str, *, columns: str = "rgb", gamma: float = 2.2) -> bytes:
    """An ICC profile of version 2: for RGB, those of sRGB's primaries, in another order."""
    xyz = {
        "r": (0.4361, 0.2225, 0.0139),
        "g": (0.3851, 0.7169, 0.0971),
        "b": (0.1431, 0.0606, 0.7141),
        "w": (0.9642, 1.0, 0.8249),
    }

    def point(name: str) -> bytes:
        return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in xyz[name]))

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    text = b"odd\0"
    desc = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": desc, b"wtpt": point("w")}
    if space == "GRAY":
        tags[b"kTRC"] = curve
    else:
        for name, column in zip("rgb", columns, strict=True):
            tags[f"{name}XYZ".encode()] = point(column)
            tags[f"{name}TRC".encode()] = curve
    table, data, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        padded = value + bytes(-len(value) % 4)
        table += tag + struct.pack(">II", offset + len(data), len(value))
        data += padded
    size = offset + len(data)
    head = struct.pack(
        ">I4sI4s4s4s", size, b"", 0x02400000, b"mntr", space.ljust(4).encode(), b"XYZ "
    )
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def write_gif(path: Path, *colours: tuple[int, int, int, int]) -> Path:
    """Two frames, or one for each colour; a corner differs, or they would be one."""
    frames = [
        Image.new("RGBA", (32, 32), colour) for colour in (colours * 2)[: max(2, len(colours))]
    ]
    frames[1].putpixel((31, 31), (0, 0, 255, 255))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, disposal=2)
    return path
