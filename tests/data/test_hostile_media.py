"""Files that say one thing and hold another: what arrives is checked, not only what is declared."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from tests.data.making import caption, cut, write_image, write_video

from ddrl.data.check import check
from ddrl.data.media.framing import Bucket, Framing
from ddrl.data.media.images import image_size, read_image
from ddrl.data.media.reading import frame_media, probe
from ddrl.data.media.videos import read_timeline, read_video
from ddrl.data.problems import BrokenFileError


def write_changing(path: Path, sizes: list[tuple[int, int]], *, each: int = 6) -> Path:
    """A video whose frames change their size in mid-stream; the head tells of the first alone."""
    width, height = sizes[0]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=12)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        container.start_encoding()
        for part, (width, height) in enumerate(sizes):
            coder = av.CodecContext.create("libvpx", "w")
            coder.width, coder.height, coder.pix_fmt = width, height, "yuv420p"
            coder.time_base = Fraction(1, 12)
            coder.options = {"cpu-used": "8", "deadline": "realtime"}
            blank = av.VideoFrame(width, height, "yuv420p")
            for plane in blank.planes:
                plane.update(bytes(plane.buffer_size))
            for number in range(each):
                blank.pts, blank.time_base = number, Fraction(1, 12)
                for packet in coder.encode(blank):
                    mux(container, stream, packet, part * each)
            for packet in coder.encode():
                mux(container, stream, packet, part * each)
    return path


def mux(container: object, stream: object, packet: object, first: int) -> None:
    packet.pts += first  # type: ignore[attr-defined]
    packet.dts = packet.pts  # type: ignore[attr-defined]
    packet.time_base = Fraction(1, 12)  # type: ignore[attr-defined]
    packet.stream = stream  # type: ignore[attr-defined]
    container.mux(packet)  # type: ignore[attr-defined]


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def test_frames_that_grow_beyond_the_limit_are_refused_before_they_are_unpacked(
    tmp_path: Path,
) -> None:
    path = write_changing(tmp_path / "a.webm", [(32, 16), (64, 32)], each=2)
    content = path.read_bytes()
    key_frame = b"\x9d\x01\x2a"  # of VP8; its size follows
    small, large = (struct.pack("<3s2H", key_frame, *size) for size in ((64, 32), (12_000, 9_000)))
    assert content.count(small) == 1
    path.write_bytes(content.replace(small, large))
    before = peak()
    for read in (read_video, probe):
        with pytest.raises(BrokenFileError, match=r"a\.webm") as caught:
            read(path)
        assert caught.value.problem.kind == "broken"
    assert peak() - before < 12_000 * 9_000  # one frame has 1.5 bytes a pixel


@pytest.mark.parametrize(
    "sizes", [[(32, 16), (64, 32)], [(64, 32), (32, 16)], [(32, 16), (16, 32)]]
)
def test_frames_that_change_their_size_are_refused(
    tmp_path: Path, sizes: list[tuple[int, int]]
) -> None:
    path = caption(write_changing(tmp_path / "a.webm", sizes))
    one, other = (f"{width} x {height}" for width, height in sizes)
    phrase = f"changes its size at 0.50 s, from {one} to {other} pixels"
    readers: list[Callable[[], object]] = [
        lambda: read_video(path),
        lambda: probe(path),
        lambda: frame_media(path, Framing((Bucket(16, 16, 12),))),
    ]
    for read in readers:
        with pytest.raises(BrokenFileError, match=phrase) as caught:
            read()
        assert caught.value.problem.kind == "broken"
    assert check(tmp_path).broken_by_kind == {"broken": 1}


def write_aspect(path: Path, aspect: Fraction, *, side: int = 32) -> Path:
    """A clip of oblong pixels: red in its left quarter, blue elsewhere."""
    picture = np.zeros((side, side, 3), np.uint8)
    picture[..., 2] = 255
    picture[:, : side // 4] = (255, 0, 0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv444p"
        stream.codec_context.sample_aspect_ratio = aspect
        stream.options = {"crf": "0"}
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("aspect", "width"),
    [
        (Fraction(1), 32),
        (Fraction(2), 64),
        (Fraction(1, 2), 16),
        (Fraction(64, 45), 46),
        (Fraction(16), 512),
        (Fraction(1, 16), 2),
    ],
)
def test_oblong_pixels_become_square(tmp_path: Path, aspect: Fraction, width: int) -> None:
    path = write_aspect(tmp_path / "a.mp4", aspect)
    line = read_timeline(path)
    assert (line.height, line.width) == (32, width)
    clip = read_video(path).float()
    assert clip.shape == (3, 3, 32, width)
    if width > 8:
        red, blue = clip[:, 0].mean((0, 1)), clip[:, 2].mean((0, 1))
        assert abs(int((red > blue).sum()) - width / 4) <= 1
        assert red[0] > 240
        assert blue[-1] > 240


@pytest.mark.parametrize("aspect", [Fraction(17), Fraction(1, 17)])
def test_pixels_of_no_known_shape_are_refused(tmp_path: Path, aspect: Fraction) -> None:
    path = write_aspect(tmp_path / "a.mp4", aspect)
    with pytest.raises(BrokenFileError, match=f"pixels {aspect.numerator}:{aspect.denominator}"):
        probe(path)


@pytest.mark.parametrize("shape", [(4000, 1), (1, 4000), (65_535, 1), ((1 << 31) - 1, 1)])
def test_a_small_file_that_claims_wide_pixels_takes_no_memory(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    path = caption(write_aspect(tmp_path / "a.mp4", Fraction(2)))
    head, mark, rest = path.read_bytes().partition(b"pasp")  # the box of the pixels' shape
    assert mark
    path.write_bytes(head + mark + struct.pack(">II", *shape) + rest[8:])
    before = peak()
    with pytest.raises(BrokenFileError, match=f"pixels {shape[0]}:{shape[1]} as wide as high"):
        probe(path)
    assert check(tmp_path).broken_by_kind == {"broken": 1}
    assert peak() - before < 50 << 20


def test_the_limit_counts_square_pixels(tmp_path: Path) -> None:
    path = write_aspect(tmp_path / "a.mp4", Fraction(8))
    assert probe(path, max_pixels=32 * 256).width == 256
    with pytest.raises(BrokenFileError, match="has 256 x 32 pixels, more than") as caught:
        probe(path, max_pixels=32 * 256 - 1)
    assert caught.value.problem.kind == "too_large"


IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from ddrl.data.check import check
check(Path(sys.argv[1]) / "warm")  # what is imported when it is needed
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (56 << 20), resource.RLIM_INFINITY))
report = check(Path(sys.argv[1]))
print(report.num_samples, [(problem.path, problem.kind) for problem in report.broken])
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_memory_that_one_file_lacks_is_not_the_end_of_the_check(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "warm"):
        caption(write_image(folder / "good.png"))
        caption(write_video(folder / "good_too.mp4"))
    large = Image.new("1", (4000, 4000))
    large.save(caption(tmp_path / "large.png"))
    large.convert("P").save(
        caption(tmp_path / "large_too.gif"), save_all=True, append_images=[large]
    )
    caption(write_aspect(tmp_path / "wide.mp4", Fraction(16), side=1000))  # 16 million pixels
    done = subprocess.run(
        [sys.executable, "-c", IN_LITTLE_MEMORY, tmp_path], capture_output=True, check=False
    )
    kinds = [(name, "too_large") for name in ("large.png", "large_too.gif", "wide.mp4")]
    assert done.stdout.decode().strip() == f"4 {kinds}", done.stderr.decode()


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def write_png(path: Path, width: int, height: int, *chunks: tuple[bytes, bytes]) -> Path:
    """A PNG of these chunks, whatever they say; the pixels are white."""
    rows = zlib.compress(b"\0" + b"\xff" * 3 * 4)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", rows), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


BOMB = zlib.compress(bytes(200 << 20), 9)
"""200 MB of zeros in 200 KB."""


@pytest.mark.parametrize(
    "part",
    [
        (b"iCCP", b"name\0\0" + BOMB),
        (b"zTXt", b"name\0\0" + BOMB),
        (b"iTXt", b"name\0\1\0\0\0" + BOMB),
    ],
    ids=["profile", "text", "international"],
)
def test_what_unpacks_to_very_much_beside_the_pixels_is_not_unpacked(
    tmp_path: Path, part: tuple[bytes, bytes]
) -> None:
    path = write_png(tmp_path / "a.png", 4, 1, part)
    before = peak()
    for read in (read_image, image_size):
        with suppress(BrokenFileError):
            read(path)
    assert peak() - before < 100 << 20


def test_an_animated_picture_costs_one_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (64, 64), (i % 256, 0, 0)) for i in range(300)]
    for name in ("a.png", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert read_image(tmp_path / name).shape == (3, 64, 64)


def test_an_orientation_or_size_that_the_metadata_claims_changes_no_limit(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0100], exif[0x0101], exif[0x0112] = 1 << 30, 1 << 30, 6
    path = tmp_path / "a.jpg"
    Image.new("RGB", (24, 16), (255, 0, 0)).save(path, exif=exif)
    assert image_size(path) == (24, 16)
    assert read_image(path).shape == (3, 24, 16)
    with pytest.raises(BrokenFileError, match="more than the limit"):
        read_image(path, max_pixels=24 * 16 - 1)


@pytest.mark.parametrize(("width", "height"), [(1 << 31, 1), (65_535, 65_535), (0, 0)])
def test_a_head_that_claims_too_much_is_refused(tmp_path: Path, width: int, height: int) -> None:
    path = write_png(tmp_path / "a.png", width, height)
    before = peak()
    with pytest.raises(BrokenFileError):
        read_image(path)
    assert peak() - before < 50 << 20


def test_a_name_that_writes_to_the_terminal_is_no_part_of_an_error(tmp_path: Path) -> None:
    name = "a\x1b[31m\n\u202e.png"
    with pytest.raises(BrokenFileError) as caught:
        read_image(cut(write_image(tmp_path / name)))
    assert str(caught.value).isprintable()
    assert r"a\x1b[31m\n\u202e.png" in str(caught.value)
