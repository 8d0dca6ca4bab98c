"""Clips of odd kinds: each is read as a player shows it, or refused with reason and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tests.data.making import caption
from tests.data.odd_media import (
    set_matrix,
    tags,
    write_flat,
    write_frames,
    write_gif,
)

from ddrl.data.check import check
from ddrl.data.media.videos import read_video

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
