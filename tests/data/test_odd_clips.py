"""Clips of odd kinds: each is read as a player shows it, or refused with reason and time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from tests.data.making import caption, cut
from tests.data.odd_media import (
    moving,
    numbers,
    recut,
    set_matrix,
    write_flat,
    write_frames,
    write_groups,
)

from ddrl.data.check import check
from ddrl.data.framing import Bucket, Framing
from ddrl.data.media import frame_media
from ddrl.data.problems import BrokenFileError
from ddrl.data.videos import read_video

RED, WHITE = (255, 0, 0), (255, 255, 255)


@dataclass(frozen=True)
class Colour:
    """A clip of one colour.

    Attributes:
        make: writes it into a folder.
        shown: the colour that a player shows, in 8-bit sRGB.
        notes: the kinds of notes.
        off: by how much any number may differ.
    """

    make: Callable[[Path], Path]
    shown: Sequence[int]
    notes: tuple[str, ...] = ()
    off: int = 2


def tags(
    matrix: int = 1, transfer: int = 1, primaries: int = 1, *, full: bool = False
) -> dict[str, int]:
    return {
        "colorspace": matrix,
        "color_trc": transfer,
        "color_primaries": primaries,
        "color_range": 2 if full else 1,
    }


def to_2020(rgb: tuple[float, float, float]) -> list[float]:
    """Light of BT.709 in that of BT.2020 (ITU-R BT.2087)."""
    matrix = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    return [float(value) for value in np.array(matrix) @ rgb]


def srgb(light: Sequence[float]) -> list[float]:
    return [1.055 * v ** (1 / 2.4) - 0.055 if v > 0.0031308 else 12.92 * v for v in light]


def pq(light: Sequence[float]) -> list[float]:
    """The PQ signal of light in cd/m^2 (SMPTE ST 2084)."""
    powers = [(v / 10_000) ** 0.1593017578125 for v in light]
    return [((0.8359375 + 18.8515625 * p) / (1 + 18.6875 * p)) ** 78.84375 for p in powers]


TEN = "yuv420p10le"
WIDE = tags(9, 14, 9)
PQ, HLG = tags(9, 16, 9), tags(9, 18, 9)
VP8, VP9 = {"cpu-used": "8", "crf": "4", "b": "5M"}, {"lossless": "1", "cpu-used": "8"}

COLOURS = {
    "stated BT.709": Colour(lambda p: write_flat(p / "a.mp4", tags=tags()), RED),
    "stated BT.601": Colour(lambda p: write_flat(p / "a.mp4", matrix=6, tags=tags(6)), RED),
    "stated BT.470": Colour(lambda p: write_flat(p / "a.mp4", matrix=6, tags=tags(5)), RED),
    "stated SMPTE 240M": Colour(lambda p: write_flat(p / "a.mp4", matrix=7, tags=tags(7)), RED),
    "unstated, small": Colour(lambda p: write_flat(p / "a.mp4", matrix=6), RED),
    "unstated, wide": Colour(lambda p: write_flat(p / "a.mp4", width=1280, height=16), RED),
    "unstated, high": Colour(lambda p: write_flat(p / "a.mp4", width=16, height=720), RED),
    "full range": Colour(
        lambda p: write_flat(p / "a.mp4", (0.4,) * 3, full=True, tags=tags(full=True)), (102,) * 3
    ),
    "limited range": Colour(lambda p: write_flat(p / "a.mp4", (0.4,) * 3, tags=tags()), (102,) * 3),
    "motion JPEG": Colour(
        lambda p: write_flat(
            p / "a.mov",
            matrix=6,
            full=True,
            pix_fmt="yuvj420p",
            codec="mjpeg",
            options={"qmin": "1", "qmax": "1"},
        ),
        RED,
        off=4,
    ),
    "10 bits": Colour(
        lambda p: write_flat(p / "a.mp4", pix_fmt=TEN, codec="libx265", tags=tags()), RED
    ),
    "4:4:4": Colour(lambda p: write_flat(p / "a.mp4", pix_fmt="yuv444p", tags=tags()), RED),
    "RGB": Colour(
        lambda p: write_frames(
            p / "a.mp4", rgba(255, "bgr24"), codec="libx264rgb", options={"qp": "0"}
        ),
        RED,
        off=0,
    ),
    "wide gamut": Colour(
        lambda p: write_flat(
            p / "a.mp4", srgb(to_2020((1, 0, 0))), matrix=9, pix_fmt=TEN, codec="libx265", tags=WIDE
        ),
        RED,
        off=4,
    ),
    "Display P3": Colour(
        lambda p: write_flat(p / "a.mp4", srgb((0.8225, 0.0332, 0.0171)), tags=tags(1, 13, 12)),
        RED,
        off=8,
    ),
    "grey of BT.601's primaries": Colour(
        lambda p: write_flat(p / "a.mp4", (0.4,) * 3, matrix=6, tags=tags(6, 6, 6)), (102,) * 3
    ),
    "PQ, white paper": Colour(
        lambda p: write_flat(
            p / "a.mp4", pq((203,) * 3), matrix=9, pix_fmt=TEN, codec="libx265", tags=PQ
        ),
        (229,) * 3,
        ("tone_mapped",),
    ),
    "PQ, the peak": Colour(
        lambda p: write_flat(
            p / "a.mp4", pq((1000,) * 3), matrix=9, pix_fmt=TEN, codec="libx265", tags=PQ
        ),
        WHITE,
        ("tone_mapped",),
    ),
    "PQ, below the knee": Colour(  # 18 % of 203 cd/m^2, which stays what it is
        lambda p: write_flat(
            p / "a.mp4", pq((0.18 * 203,) * 3), matrix=9, pix_fmt=TEN, codec="libx265", tags=PQ
        ),
        [round(255 * value) for value in srgb((0.18,) * 3)],
        ("tone_mapped",),
    ),
    "PQ, red": Colour(
        lambda p: write_flat(
            p / "a.mp4",
            pq([50 * v for v in to_2020((1, 0, 0))]),
            matrix=9,
            pix_fmt=TEN,
            codec="libx265",
            tags=PQ,
        ),
        [round(255 * srgb((50 / 203,))[0]), 0, 0],
        ("tone_mapped",),
        off=6,
    ),
    "PQ, webm": Colour(
        lambda p: write_flat(
            p / "a.webm", pq((203,) * 3), matrix=9, codec="libvpx-vp9", options=VP9, tags=PQ
        ),
        (229,) * 3,
        ("tone_mapped",),
    ),
    "HLG, white paper": Colour(
        lambda p: write_flat(
            p / "a.mp4", (0.75,) * 3, matrix=9, pix_fmt=TEN, codec="libx265", tags=HLG
        ),
        (229,) * 3,
        ("tone_mapped",),
    ),
    "HLG, black": Colour(
        lambda p: write_flat(
            p / "a.mp4", (0,) * 3, matrix=9, pix_fmt=TEN, codec="libx265", tags=HLG
        ),
        (0, 0, 0),
        ("tone_mapped",),
    ),
    "VP8, clear": Colour(
        lambda p: write_flat(
            p / "a.webm",
            pix_fmt="yuva420p",
            codec="libvpx",
            matrix=6,
            options={**VP8, "auto-alt-ref": "0"},
            alpha=0.0,
        ),
        WHITE,
    ),
    "VP8, opaque": Colour(
        lambda p: write_flat(
            p / "a.webm",
            pix_fmt="yuva420p",
            codec="libvpx",
            matrix=6,
            options={**VP8, "auto-alt-ref": "0"},
            alpha=1.0,
        ),
        RED,
        off=6,
    ),
    "VP9, clear": Colour(
        lambda p: write_flat(
            p / "a.webm", pix_fmt="yuva420p", codec="libvpx-vp9", matrix=6, options=VP9, alpha=0.0
        ),
        WHITE,
    ),
    "VP9, half clear": Colour(
        lambda p: write_flat(
            p / "a.webm", pix_fmt="yuva420p", codec="libvpx-vp9", matrix=6, options=VP9, alpha=0.5
        ),
        (255, 127, 127),
        off=4,
    ),
    "ProRes 4444, clear": Colour(
        lambda p: write_flat(
            p / "a.mov",
            pix_fmt="yuva444p10le",
            codec="prores_ks",
            options={"alpha_bits": "16"},
            tags=tags(),
            alpha=0.0,
        ),
        WHITE,
    ),
    "PNG in QuickTime, clear": Colour(
        lambda p: write_frames(p / "a.mov", rgba(0), codec="png"), WHITE
    ),
    "animation in QuickTime, clear": Colour(
        lambda p: write_frames(p / "a.mov", rgba(0, "argb"), codec="qtrle"), WHITE
    ),
    "FFV1 in Matroska, clear": Colour(
        lambda p: write_frames(p / "a.webm", rgba(0, "bgra"), codec="ffv1", form="matroska"), WHITE
    ),
    "GIF, clear": Colour(lambda p: write_gif(p / "a.gif", (255, 0, 0, 0)), WHITE),
    "GIF, opaque": Colour(lambda p: write_gif(p / "a.gif", (255, 0, 0, 255)), RED),
    "H.264 in Matroska": Colour(
        lambda p: write_flat(p / "a.webm", form="matroska", tags=tags()), RED
    ),
}


def rgba(alpha: int, pix_fmt: str = "rgba") -> list[av.VideoFrame]:
    """Two red frames of some alpha."""
    picture = np.full((32, 32, 4), (255, 0, 0, alpha), np.uint8)
    frames = [av.VideoFrame.from_ndarray(picture, format="rgba") for _ in range(2)]
    return [frame.reformat(format=pix_fmt) for frame in frames]


def write_gif(path: Path, *colours: tuple[int, int, int, int]) -> Path:
    """Two frames, or one for each colour; a corner differs, or they would be one."""
    frames = [
        Image.new("RGBA", (32, 32), colour) for colour in (colours * 2)[: max(2, len(colours))]
    ]
    frames[1].putpixel((31, 31), (0, 0, 255, 255))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, disposal=2)
    return path


@pytest.mark.parametrize("case", COLOURS.values(), ids=COLOURS.keys())
def test_a_colour_is_the_one_that_a_player_shows(tmp_path: Path, case: Colour) -> None:
    path = caption(case.make(tmp_path))
    report = check(tmp_path)
    assert report.num_videos == 1, report.lines()
    assert tuple(problem.kind for problem in report.problems) == case.notes
    clip = read_video(path).numpy()
    middle = clip[:, :, 4:12, 4:12].astype(int)
    assert np.abs(middle - np.reshape(case.shown, (1, 3, 1, 1))).max() <= case.off, middle[
        0, :, 0, 0
    ]


@pytest.mark.parametrize(
    ("turn", "corner"),
    [
        ((1, 0, 0, 1), (0, 0)),
        ((-1, 0, 0, 1), (0, 1)),
        ((1, 0, 0, -1), (1, 0)),
        ((-1, 0, 0, -1), (1, 1)),
        ((0, 1, 1, 0), (0, 0)),
        ((0, 1, -1, 0), (0, 1)),
        ((0, -1, 1, 0), (1, 0)),
        ((0, -1, -1, 0), (1, 1)),
    ],
)
def test_a_clip_is_turned_and_mirrored_as_its_matrix_says(
    tmp_path: Path, turn: tuple[int, int, int, int], corner: tuple[int, int]
) -> None:
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:16, :32] = 255  # the upper left, as it is stored
    frames = [av.VideoFrame.from_ndarray(picture, format="rgb24") for _ in range(2)]
    stored = [frame.reformat(format="yuv420p") for frame in frames]
    path = set_matrix(write_frames(tmp_path / "a.mp4", stored), turn)
    frame = read_video(path)[0].numpy()
    height, width = (32, 64) if turn[0] else (64, 32)
    assert frame.shape == (3, height, width)
    quarters = frame.reshape(3, 2, height // 2, 2, width // 2).mean((0, 2, 4)) > 128
    assert quarters.sum() == 1
    assert quarters[corner]


def test_oblong_pixels_of_a_turned_clip_are_those_that_it_stores(tmp_path: Path) -> None:
    path = write_flat(tmp_path / "a.mp4", aspect=Fraction(2))
    assert read_video(path).shape == (4, 3, 32, 64)
    assert read_video(set_matrix(path, (0, 1, -1, 0))).shape == (4, 3, 64, 32)


@dataclass(frozen=True)
class Cut:
    """A clip of 16 frames that was cut without encoding it again.

    Attributes:
        make: writes it into a folder.
        frames: those that a player shows.
        notes: what `data check` says, as an expression.
    """

    make: Callable[[Path], Path]
    frames: Sequence[int]
    notes: str = ""


def groups(codec: str, **how: Any) -> Callable[[Path], Path]:
    """A maker of a clip that is copied in part."""

    def make(folder: Path) -> Path:
        suffix = "webm" if codec.startswith("libvpx") else "mp4"
        whole = write_groups(folder.parent / f"whole.{suffix}", codec=codec)
        return recut(whole, folder / f"a.{suffix}", **how)

    return make


LOST = r"starts off a key frame: its first \d\.\d\d s can't be shown"
CUTS = {
    "whole": Cut(groups("libx264"), range(16)),
    "edit list, B-frames": Cut(groups("libx264", earlier=3), range(3, 16)),
    "edit list, later group": Cut(groups("libx264", earlier=8), range(8, 16)),
    "edit list, within a later group": Cut(groups("libx264", earlier=10), range(10, 16)),
    "delay": Cut(groups("libx264", earlier=-20), range(16)),
    "a long last frame": Cut(groups("libx264", hold=90), range(16)),
    "off a key frame": Cut(groups("libx264", skip=3), range(8, 16), LOST),
    "at an open group": Cut(groups("libx264", skip=7), range(8, 16), "|" + LOST),
    "HEVC, edit list": Cut(groups("libx265", earlier=3), range(3, 16)),
    "HEVC, off a key frame": Cut(groups("libx265", skip=3), range(8, 16), LOST),
    "HEVC, at an open group": Cut(groups("libx265", skip=7), range(8, 16), "|" + LOST),
    "MPEG-4, edit list": Cut(groups("mpeg4", earlier=3), range(3, 16)),
    "MPEG-4, off a key frame": Cut(groups("mpeg4", skip=3), range(8, 16), LOST),
    "VP9, off a key frame": Cut(groups("libvpx-vp9", skip=3), range(8, 16), LOST),
    "VP8, off a key frame": Cut(groups("libvpx", skip=3), range(8, 16), LOST),
}


@pytest.mark.parametrize("case", CUTS.values(), ids=CUTS.keys())
def test_a_cut_clip_has_the_frames_that_a_player_shows(tmp_path: Path, case: Cut) -> None:
    (folder := tmp_path / "set").mkdir()
    path = caption(case.make(folder))
    report = check(folder)
    assert report.num_videos == 1, report.lines()
    assert re.fullmatch(case.notes, "".join(problem.message for problem in report.problems))
    assert numbers(read_video(path).numpy()) == list(case.frames)


def spoiled(content: bytes) -> bytes:
    """The middle of a packet overwritten by noise."""
    at, size = len(content) // 3, len(content) // 3
    return content[:at] + np.random.default_rng(0).bytes(size) + content[at + size :]


def without_key(codec: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return recut(groups(codec)(folder), folder / f"b.{suffix}", skip=9)

    suffix = "webm" if codec.startswith("libvpx") else "mp4"
    return make


@dataclass(frozen=True)
class Refused:
    """A clip that no training may see.

    Attributes:
        make: writes it into a folder.
        reason: what is said, as an expression.
        kind: of the problem.
    """

    make: Callable[[Path], Path]
    reason: str
    kind: str = "broken"


REFUSED = {
    "H.264, damaged inside": Refused(
        groups("libx264", change=spoiled, changed=4), r"damaged at 0\.\d\d s"
    ),
    "H.264, the key frame damaged": Refused(
        groups("libx264", change=spoiled, changed=7), r"damaged at 0\.\d\d s"
    ),
    "H.264, a frame lost": Refused(groups("libx264", without=4), r"damaged at \d\.\d\d s"),
    "H.264, a frame empty": Refused(
        groups("libx264", change=lambda content: bytes(len(content)), changed=4),
        r"damaged at 0\.\d\d s",
    ),
    "H.264, cut and damaged": Refused(
        groups("libx264", skip=7, change=spoiled, changed=11), r"damaged at 0\.\d\d s"
    ),
    "HEVC, a frame lost": Refused(groups("libx265", without=1), r"damaged at 0\.\d\d s"),
    "MPEG-4, damaged inside": Refused(
        groups("mpeg4", change=spoiled, changed=4), r"damaged at 0\.\d\d s"
    ),
    "H.264, the end cut off": Refused(
        lambda p: cut(write_frames(p / "a.mp4", moving(), muxer={"movflags": "faststart"}), 0.7),
        r"damaged at \d\.\d\d s|is cut off after \d+ frames \(at \d\.\d\d s\)",
    ),
    "VP9, the end cut off": Refused(
        lambda p: cut(write_groups(p / "a.webm", codec="libvpx-vp9"), 0.6),
        r"damaged at \d\.\d\d s|is cut off after \d+ frames \(at \d\.\d\d s\)",
    ),
    "GIF, the end cut off": Refused(
        lambda p: cut(write_gif(p / "a.gif", *[(0, 0, n, 255) for n in range(0, 250, 9)]), 0.7),
        r"damaged at \d\.\d\d s|is cut off after \d+ frames \(at \d\.\d\d s\)",
    ),
    "no key frame": Refused(without_key("libvpx-vp9"), "it has no key frame"),
    "sizes that change": Refused(
        lambda p: recut(
            write_groups(p / "whole.webm", codec="libvpx"),
            p / "a.webm",
            changed=8,
            change=lambda content: content[:6] + b"\x40\0\x40\0" + content[10:],
        ),
        r"changes its size at 0\.80 s, from 32 x 32 to 64 x 64 pixels|damaged at 0\.80 s",
    ),
    "a matrix that nobody shows": Refused(
        lambda p: write_flat(p / "a.mp4", tags=tags(8)), "states colour matrix 8", "unknown_colour"
    ),
    "a transfer that nobody shows": Refused(
        lambda p: write_flat(p / "a.mp4", tags=tags(1, 9)), "colour transfer 9", "unknown_colour"
    ),
    "primaries that nobody shows": Refused(
        lambda p: write_flat(p / "a.mp4", tags=tags(1, 1, 10)), "primaries 10", "unknown_colour"
    ),
    "a slant": Refused(
        lambda p: set_matrix(write_flat(p / "a.mp4"), (0.7, 0.7, -0.7, 0.7)), "turned by 45 degrees"
    ),
    "one frame": Refused(
        lambda p: write_frames(p / "a.mp4", moving(1)), "has 1 frame; 2 are needed", "too_short"
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_check_refuses_is_never_trained_on(tmp_path: Path, case: Refused) -> None:
    (folder := tmp_path / "set").mkdir()
    path = caption(case.make(folder))
    for other in folder.iterdir():
        if other.stem != path.stem:
            other.unlink()
    (problem,) = check(folder).broken
    assert problem.kind == case.kind
    assert re.search(case.reason, problem.message), problem.message
    for read in (
        lambda: read_video(path),
        lambda: frame_media(path, Framing((Bucket(16, 16, 2),))),
    ):
        with pytest.raises(BrokenFileError, match=case.reason):
            read()
