"""Makes real media files, whole and broken."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image


def write_image(path: Path, *, width: int = 24, height: int = 16, colour: object = None) -> Path:
    """Write an image: a gradient, or one colour."""
    rows, columns = np.mgrid[0:height, 0:width]
    gradient = np.stack([rows * 8 % 256, columns * 8 % 256, rows + columns], axis=-1)
    image = Image.fromarray(gradient.astype(np.uint8))
    if isinstance(colour, tuple):
        image = Image.new("RGB", (width, height), colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def write_video(
    path: Path,
    *,
    frames: int = 12,
    fps: int = 12,
    width: int = 32,
    height: int = 16,
    codec: str = "mpeg4",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: list[int] | None = None,
    first: int = 0,
) -> Path:
    """Write a video whose grey level grows by 8 each frame; ``times`` are in 1/fps s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.time_base = Fraction(1, fps)
        for number in range(frames):
            grey = np.full((height, width, 3), (first + number * 8) % 256, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, fps)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def cut(path: Path, share: float = 0.6) -> Path:
    """Cut a file off."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def caption(media: Path, text: str = "a cat") -> Path:
    """Write a caption beside a file."""
    media.with_suffix(".txt").write_text(text, encoding="utf-8")
    return media


def write_broken_folder(folder: Path) -> Path:
    """The twelve kinds of odd or broken input, and one plain image and one plain clip."""
    caption(write_image(folder / "good.png"))
    caption(write_video(folder / "clip.mp4"), "a clip")
    caption(cut(write_image(folder / "01_truncated.png", width=200, height=200), 0.5))
    caption(folder / "02_empty.mp4").write_bytes(b"")
    caption(folder / "03_text.png").write_text("I am no picture at all, but a text")
    write_image(folder / "04_no_caption.png")
    caption(write_video(folder / "05_one_frame.mp4", frames=1))
    Image.new("1", (9000, 9000)).save(caption(folder / "06_huge.png"))
    write_image(folder / "07_latin1.png").with_suffix(".txt").write_bytes(
        "caf\xe9".encode("latin1")
    )
    (folder / "08_deep").mkdir()
    (folder / "08_deep" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "08_self").symlink_to("08_self")
    write_image(folder / "09_twice.png")
    caption(write_image(folder / "09_twice.jpg"))
    caption(write_image(folder / "10_größe 猫 🐈.png"), "eine Katze 猫")
    Image.new("CMYK", (24, 16), (0, 255, 255, 0)).save(caption(folder / "11_cmyk.jpg"))
    Image.new("RGBA", (24, 16), (255, 0, 0, 0)).save(caption(folder / "12_alpha.png"))
    (folder / "13_no_media.txt").write_text("nothing to see")
    return folder


def write_lines(path: Path, *records: object) -> Path:
    """Write a jsonl file."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
