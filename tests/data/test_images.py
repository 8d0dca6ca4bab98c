from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.making import cut, write_image, write_video

from ddrl.data.media.images import image_size, read_image
from ddrl.data.problems import BrokenFileError


def colour_of(pixels: torch.Tensor) -> list[int]:
    return [int(value) for value in pixels[:, 3, 3]]


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_pixels_come_back(tmp_path: Path, suffix: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / f"a.{suffix}", lossless=True)
    pixels = read_image(tmp_path / f"a.{suffix}")
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, torch.from_numpy(picture).permute(2, 0, 1))


def test_a_jpeg_is_read_whatever_its_name(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jpg").rename(tmp_path / "a.png")
    assert read_image(path).shape == (3, 16, 24)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = Image.new("RGB", (24, 16), (0, 0, 0))
    upright.paste((255, 255, 255), (0, 0, 8, 8))  # the upper left corner
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    pixels = read_image(tmp_path / "a.png")
    assert pixels.shape == (3, 16, 24)
    assert image_size(tmp_path / "a.png") == (16, 24)
    assert pixels[:, :8, :8].min() == 255
    assert pixels[:, 8:, 8:].max() == 0


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = colour_of(read_image(tmp_path / "a.jpg"))
    assert red > 250
    assert green < 5
    assert blue < 5


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), [255, 255, 255]),
        ("RGBA", (255, 0, 0, 255), [255, 0, 0]),
        ("RGBA", (0, 0, 0, 51), [204, 204, 204]),
        ("LA", (0, 0), [255, 255, 255]),
        ("L", 7, [7, 7, 7]),
        ("1", 1, [255, 255, 255]),
    ],
)
def test_alpha_is_laid_on_white(
    tmp_path: Path, mode: str, colour: int | tuple[int, ...], expected: list[int]
) -> None:
    Image.new(mode, (8, 8), colour).save(tmp_path / "a.png")
    assert colour_of(read_image(tmp_path / "a.png")) == expected


def test_a_transparent_palette_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "a.png", transparency=1)
    image.save(tmp_path / "b.png")
    assert colour_of(read_image(tmp_path / "a.png")) == [255, 255, 255]
    assert colour_of(read_image(tmp_path / "b.png")) == [255, 0, 0]


@pytest.mark.parametrize(
    ("wide", "level"),
    [(257 * 100 + 129, 101), (257 * 200, 200), (65535, 255), (128, 0)],  # the first is 100.502
)
def test_sixteen_bits_are_rounded_to_eight(tmp_path: Path, wide: int, level: int) -> None:
    Image.fromarray(np.full((8, 8), wide, dtype=np.uint16)).save(tmp_path / "a.png")
    assert colour_of(read_image(tmp_path / "a.png")) == [level] * 3


def png_head(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and has no pixels."""

    def chunk(content: bytes) -> bytes:
        size, check = len(content) - 4, zlib.crc32(content)
        return struct.pack(">I", size) + content + struct.pack(">I", check)

    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(head) + chunk(b"IDAT" + zlib.compress(bytes(9)))


@pytest.mark.parametrize("side", [9000, 12_000, 100_000])
def test_a_huge_image_is_refused_undecoded(tmp_path: Path, side: int) -> None:
    # 12 000 and more are above the limits at which Pillow warns, and raises, by itself.
    (tmp_path / "a.png").write_bytes(png_head(side, side))
    with pytest.raises(BrokenFileError, match=r"a\.png.*more") as caught:
        read_image(tmp_path / "a.png")
    assert caught.value.problem.kind == "too_large"


def test_the_limit_is_a_setting(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", width=10, height=10)
    assert read_image(path, max_pixels=100).shape == (3, 10, 10)
    with pytest.raises(BrokenFileError, match="has 10 x 10 pixels, more than the limit of 99"):
        image_size(path, max_pixels=99)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
    with pytest.raises(BrokenFileError, match=rf"a\.{suffix}: is a broken or truncated") as caught:
        read_image(cut(tmp_path / f"a.{suffix}", share))
    assert caught.value.problem.kind == "broken"


def test_noise_in_a_file_never_crashes(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "PNG")
    whole, rng = buffer.getvalue(), np.random.default_rng(0)
    for _ in range(200):
        spoiled = bytearray(whole)
        spoiled[int(rng.integers(8, len(whole)))] = int(rng.integers(256))
        (tmp_path / "a.png").write_bytes(spoiled)
        try:
            read_image(tmp_path / "a.png")
        except BrokenFileError as error:
            assert "a.png" in error.message  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    ("content", "kind", "phrase"),
    [
        (b"", "empty_file", r"is empty \(0 bytes\)"),
        (b"some text, no picture", "wrong_extension", "is named as png, but its content is some"),
        (b"GIF89a" + bytes(20), "wrong_extension", "is named as png, but its content is gif"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, kind: str, phrase: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BrokenFileError, match=phrase) as caught:
        read_image(tmp_path / "a.png")
    assert caught.value.problem.kind == kind


def test_a_video_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BrokenFileError, match="is no image, but mp4"):
        read_image(write_video(tmp_path / "a.mp4"))
    with pytest.raises(BrokenFileError, match="No such file") as caught:
        read_image(tmp_path / "none.png")
    assert caught.value.problem.kind == "unreadable"
