from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.making import cut, write_image, write_video

from ddrl.data.media.framing import Bucket, Framing
from ddrl.data.media.reading import frame_media, probe, to_unit
from ddrl.data.media.videos import read_timeline, read_video
from ddrl.data.problems import BrokenFileError


def numbers(clip: torch.Tensor) -> list[int]:
    """Which frames of :func:`write_video` these are."""
    return [round(value / 8) for value in clip.float().mean((1, 2, 3)).tolist()]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mp4", "mpeg4", "yuv420p"),
        ("a.mov", "mpeg4", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.gif", "gif", "gray"),
    ],
)
def test_all_frames_of_every_format(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    path = write_video(tmp_path / name, fps=10, codec=codec, pix_fmt=pix_fmt)
    clip = read_video(path)
    assert clip.dtype == torch.uint8
    assert clip.shape == (12, 3, 16, 32)
    assert numbers(clip) == list(range(12))
    line = read_timeline(path)
    assert (line.height, line.width) == (16, 32)
    assert line.fps == pytest.approx(10)
    assert line.seconds == pytest.approx(1.2)


def test_frames_are_sampled_in_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=24, fps=24, codec="libx264")
    assert numbers(read_video(path, fps=8, num_frames=4)) == [0, 3, 6, 9]
    assert numbers(read_video(path, fps=8, num_frames=3, start="centre")) == [8, 11, 14]
    assert numbers(read_video(path, fps=48, num_frames=4)) == [0, 0, 1, 1]
    assert numbers(read_video(path, fps=12)) == list(range(0, 24, 2))


def test_frames_of_an_uneven_clip(tmp_path: Path) -> None:
    times = [0, 1, 2, 3, 10, 11, 20]
    path = write_video(tmp_path / "a.mp4", frames=7, fps=10, times=times)
    assert numbers(read_video(path, fps=1, num_frames=3)) == [0, 4, 6]


def test_a_clip_too_short_says_what_it_has_and_what_is_needed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=12, fps=24)
    phrase = r"a\.mp4: has 12 frames \(0\.50 s at 24 fps\), which is 8 at 16 fps; 17 are needed"
    with pytest.raises(BrokenFileError, match=phrase) as caught:
        read_video(path, fps=16, num_frames=17)
    assert caught.value.problem.kind == "too_short"
    with pytest.raises(BrokenFileError, match=r"has 12 frames \(.*\); 13 are needed"):
        read_video(path, num_frames=13)


def test_one_frame_is_a_still(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=1)
    with pytest.raises(BrokenFileError, match=r"has 1 frame; 2 are needed"):
        read_video(path)
    assert read_video(path, num_frames=1).shape == (1, 3, 16, 32)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options"),
    [
        ("a.mp4", "mpeg4", "yuv420p", {}),
        ("a.mp4", "libx264", "yuv420p", {"movflags": "faststart"}),
        ("a.webm", "libvpx-vp9", "yuv420p", {}),
        ("a.gif", "gif", "gray", {}),
    ],
)
def test_a_truncated_file_is_named(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, options: dict[str, str], share: float
) -> None:
    path = write_video(
        tmp_path / name,
        frames=60,
        codec=codec,
        pix_fmt=pix_fmt,
        options=options,
        width=64,
        height=64,
    )
    with pytest.raises(
        BrokenFileError, match=r"a\..*(broken or truncated|is cut off|no video)"
    ) as caught:
        read_video(cut(path, share))
    assert caught.value.problem.kind == "broken"


def test_a_picture_in_a_film_can(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png").rename(tmp_path / "a.mp4")
    with pytest.raises(BrokenFileError, match="is named as mp4, but its content is png") as caught:
        read_video(path)
    assert caught.value.problem.kind == "wrong_extension"
    with pytest.raises(BrokenFileError, match="is no video, but png"):
        read_video(write_image(tmp_path / "b.png"))


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    secret = write_video(tmp_path / "secret.mp4")
    (tmp_path / "a.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n")
    with pytest.raises(BrokenFileError, match="its content is something else"):
        read_video(tmp_path / "a.mp4")


def test_a_huge_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenFileError, match="has 32 x 16 pixels, more than the limit of 500"):
        read_video(write_video(tmp_path / "a.mp4"), max_pixels=500)


def test_a_transparent_gif_is_laid_on_white(tmp_path: Path) -> None:
    frames = [
        Image.new("RGBA", (8, 8), (255, 0, 0, 0)),
        Image.new("RGBA", (8, 8), (0, 0, 255, 255)),
    ]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    clip = read_video(tmp_path / "a.gif")
    assert clip[0].min() == 255
    assert clip[1, :, 4, 4].tolist() == [0, 0, 255]


def test_a_clip_in_its_bucket(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=24, fps=24, width=64, height=32)
    framing = Framing((Bucket(16, 16, 5), Bucket(16, 32, 5), Bucket(16, 32, 100)), fps=12)
    framed = frame_media(path, framing)
    assert framed.bucket == Bucket(16, 32, 5)
    assert framed.pixels.shape == (5, 3, 16, 32)
    assert numbers(framed.pixels) == [0, 2, 4, 6, 8]
    assert torch.equal(framed.pixels, frame_media(path, framing, facts=probe(path)).pixels)
    with pytest.raises(BrokenFileError, match="which is 12 at 12 fps; 49 are needed"):
        frame_media(path, Framing((Bucket(16, 32, 49),), fps=12))


def test_an_image_in_its_bucket(tmp_path: Path) -> None:
    framed = frame_media(write_image(tmp_path / "a.png"), Framing((Bucket(8, 8), Bucket(8, 16))))
    assert framed.pixels.shape == (3, 8, 16)
    unit = to_unit(framed.pixels)
    assert unit.dtype == torch.float32
    assert float(unit.max()) <= 1
    assert np.isclose(float(unit[0, 0, 0]) * 255, float(framed.pixels[0, 0, 0]))


def test_a_clip_held_sideways_is_turned_upright(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    picture = np.zeros((32, 64, 3), dtype=np.uint8)
    picture[:16, :32] = 255  # upper left as stored; upper right when turned clockwise
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    one, none = 1 << 16, 0
    content, track = path.read_bytes(), path.read_bytes().index(b"tkhd")
    upright = struct.pack(">5i", one, none, none, none, one)
    turned = struct.pack(">5i", none, one, none, -one, none)
    place = content.index(upright, track)
    path.write_bytes(content[:place] + turned + content[place + len(turned) :])
    line = read_timeline(path)
    assert (line.height, line.width) == (64, 32)
    frame = read_video(path)[0].float()
    assert frame[:, 4:28, 20:28].mean() > 240
    assert frame[:, 4:28, 4:12].mean() < 15
    assert frame[:, 36:, :].mean() < 15


def test_noise_in_a_file_never_crashes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        spoiled = bytearray(whole)
        for place in rng.integers(len(whole), size=4):
            spoiled[place] = int(rng.integers(256))
        path.write_bytes(spoiled)
        try:
            read_video(path)
        except BrokenFileError as error:
            assert "a.mp4" in error.message  # noqa: PT017 - either outcome is right
