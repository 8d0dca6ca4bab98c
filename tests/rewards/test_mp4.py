from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch

from ddrl.cli.pictures import mp4
from ddrl.data.media.videos import read_video
from ddrl.rewards.mp4 import write_mp4

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (100, 150, 200)]


def frames(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.stack([np.full((height, width, 3), colour, np.uint8) for colour in COLOURS])


@pytest.mark.parametrize(("height", "width"), [(16, 32), (720, 16), (16, 1280)])
def test_a_clip_states_its_colour_and_keeps_it(tmp_path: Path, height: int, width: int) -> None:
    pixels = frames(height, width)
    (tmp_path / "a.mp4").write_bytes(mp4(torch.from_numpy(pixels), 1, fps=8))
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        stated = (context.color_primaries, context.color_trc, context.colorspace)
        assert stated == (1, 13, 6)  # BT.709, sRGB, BT.601 of ITU-T H.273
        assert context.color_range == 1  # limited
        assert b"colrnclx" in (tmp_path / "a.mp4").read_bytes()
        assert container.streams.video[0].average_rate == 8
    shown = read_video(tmp_path / "a.mp4").movedim(1, -1).numpy()
    assert np.abs(shown.astype(int) - pixels).max() <= 3


def test_odd_sides_without_subsampling() -> None:
    file = io.BytesIO()
    pixels = frames(5, 7)
    write_mp4(file, pixels, fps=30_000 / 1001, pix_fmt="yuv444p", options={"crf": "0"})
    file.seek(0)
    with av.open(file) as container:
        assert container.streams.video[0].average_rate * 1001 == 30_000
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.abs(np.stack(shown).astype(int) - pixels).max() <= 3
