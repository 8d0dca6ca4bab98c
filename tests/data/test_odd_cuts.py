"""Clips that were cut or damaged: the frames that a player shows, or refused with the time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.making import caption, cut
from tests.data.odd_media import (
    moving,
    numbers,
    recut,
    set_matrix,
    tags,
    write_flat,
    write_frames,
    write_gif,
    write_groups,
    write_with_others,
)

from ddrl.data.check import check
from ddrl.data.encoded.cache import EncodedCache
from ddrl.data.encoded.encoders import MediaEncoder, TextEncoder
from ddrl.data.encoded.encoding import encode
from ddrl.data.encoded.filling import Filler
from ddrl.data.layouts.files import find_samples
from ddrl.data.locators import content_hash, locate
from ddrl.data.media.framing import Bucket, Framing
from ddrl.data.media.reading import frame_media, probe, recall
from ddrl.data.media.videos import read_video
from ddrl.data.problems import BrokenFileError


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
    "with sound": Cut(lambda p: write_with_others(p / "a.mp4"), range(16)),
    "with a cover": Cut(lambda p: write_with_others(p / "a.mp4", cover=True), range(16)),
    "in fragments": Cut(
        lambda p: write_frames(
            p / "a.mp4", moving(), muxer={"movflags": "frag_keyframe+empty_moov"}
        ),
        range(16),
    ),
    "interlaced": Cut(
        lambda p: write_frames(p / "a.mp4", moving(), options={"x264-params": "tff=1:crf=5"}),
        range(16),
    ),
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


def test_encoding_says_of_a_damaged_clip_what_check_says_and_remembers_a_sound_one(
    tmp_path: Path,
) -> None:
    (folder := tmp_path / "set").mkdir()
    caption(groups("libx264", change=spoiled, changed=4)(folder)).rename(folder / "b.mp4")
    caption(folder / "b.mp4")
    cut_clip = caption(groups("libx264", skip=3)(folder))
    cache, seen = EncodedCache(tmp_path / "cache"), list[tuple[int, ...]]()

    def encode_media(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(pixels.shape))
        return pixels

    report = encode(
        find_samples(folder).samples,
        Filler(
            cache,
            MediaEncoder(encode_media, "vae", torch.float32),
            TextEncoder(lambda texts: {"x": torch.zeros(len(texts), 1)}, "clip", torch.float32),
            Framing((Bucket(16, 16, 8),)),
        ),
    )
    (refused,) = report.problems
    assert refused == check(folder).broken[0]
    assert seen == [(1, 8, 3, 16, 16)]
    known = cache.facts(content_hash(cut_clip))
    assert known is not None
    assert recall(locate(cut_clip), known) == probe(cut_clip)
    assert cache.facts(content_hash(folder / "b.mp4")) is None


def test_a_memory_that_was_tampered_with_is_made_again(tmp_path: Path) -> None:
    (folder := tmp_path / "set").mkdir()
    path = caption(groups("libx264")(folder))
    cache = EncodedCache(tmp_path / "cache")
    cache.write_facts(content_hash(path), {"stamps": "many"})
    report = encode(
        find_samples(folder).samples,
        Filler(
            cache,
            MediaEncoder(lambda pixels: pixels, "vae", torch.float32),
            TextEncoder(lambda texts: {"x": torch.zeros(len(texts), 1)}, "clip", torch.float32),
            Framing((Bucket(16, 16, 8),)),
        ),
    )
    assert (len(report.samples), report.problems) == (1, ())
