"""``vbench`` up to VBench's calls: its package has pins and weights that are not here."""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from tests.rewards.rendering import prompts
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.rewards.base import SampleError, make_reward
from ddrl.rewards.builtin.vbench import DEFAULT, DIMENSIONS, read_results, write_clip
from ddrl.testing.rewards import check_reward

# A package with the interface and the files of vbench 0.1.5, written after its description. The
# value of a clip is its mean red, of imaging_quality in percent; it lists clips in no order.
PACKAGE = """
import json
import os

import av


class VBench(object):
    def __init__(self, device, full_info_dir, output_path):
        self.device, self.output_path = device, output_path
        os.makedirs(output_path, exist_ok=True)

    def evaluate(self, videos_path, name, prompt_list=[], dimension_list=None, local=False,
                 read_frame=False, mode="vbench_standard", **kwargs):
        assert mode == "custom_input" and not kwargs and not read_frame
        print("Evaluation meta data saved")
        files = sorted(os.listdir(videos_path), reverse=True)
        assert len(prompt_list) >= len(files) and set(files) <= set(prompt_list)
        red = {}
        for file in files:
            with av.open(os.path.join(videos_path, file)) as container:
                frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
            red[file] = sum(float(f[..., 0].mean()) for f in frames) / len(frames) / 255
        results = {}
        for dimension in dimension_list:
            if "fail" in prompt_list.values():
                raise AssertionError("File amt-s.pth does not exist.")
            scale = 100 if dimension == "imaging_quality" else 1
            results[dimension] = [sum(red.values()) / len(red), [
                {"video_path": os.path.join(videos_path, file), "video_results": scale * value}
                for file, value in red.items()
                if not (prompt_list[file] == "leave out" and dimension == dimension_list[-1])
            ]]
        if "other layout" in prompt_list.values():
            results = {dimension: 0.5 for dimension in dimension_list}
        with open(os.path.join(self.output_path, name + "_eval_results.json"), "w") as file:
            json.dump(results, file)
        VBench.seen = [videos_path, prompt_list, dimension_list, local, self.device]
"""

TEXTS = ("a cat", "a dog", "a cat")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """VBench's interface; gives what the last call was asked."""
    (tmp_path / "vbench").mkdir()
    (tmp_path / "vbench" / "__init__.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "vbench", raising=False)
    yield lambda: sys.modules["vbench"].VBench.seen
    sys.modules.pop("vbench", None)


def clips(count: int = 3, frames: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count * frames, 3, 3, 4, generator=generator)
    media = torch.nn.functional.interpolate(coarse, (15, 22), mode="bilinear")
    return media.reshape(count, frames, 3, 15, 22)


def make(**options: Any) -> Any:
    return make_reward("vbench", {"device": "cpu", **options})


def test_every_clip_has_its_own_mean(package: Callable[[], Any], capsys: Any) -> None:
    media = clips()
    found = make(clip_fps=8.0).score(media, prompts(*TEXTS))
    # The five dimensions agree here, once imaging_quality is in [0, 1]; the MP4 rounds colours.
    torch.testing.assert_close(found, media[:, :, 0].mean((1, 2, 3)), atol=2e-3, rtol=0)
    assert float(found.max() - found.min()) > 0.01
    videos, asked, dimensions, local, device = package()
    assert asked == {"000000.mp4": "a cat", "000001.mp4": "a dog", "000002.mp4": "a cat"}
    assert tuple(dimensions) == DEFAULT
    assert (local, device) == (False, torch.device("cpu"))
    assert not Path(videos).exists()
    out = capsys.readouterr()
    assert (out.out, out.err) == ("", "Evaluation meta data saved\n")


def test_the_contract(package: Callable[[], Any]) -> None:
    check_reward(make(dimensions="imaging_quality"), clips(), prompts(*TEXTS))


def test_dimensions_are_chosen(package: Callable[[], Any]) -> None:
    make(dimensions="dynamic_degree, motion_smoothness,dynamic_degree", local=True).score(
        clips(), prompts(*TEXTS)
    )
    assert package()[2:4] == [["dynamic_degree", "motion_smoothness"], True]


def test_what_vbench_leaves_out_has_no_number(package: Callable[[], Any]) -> None:
    media = clips()
    media[0, 1, 0, 0, 0] = torch.nan
    asked = prompts("a cat", "a dog", "leave out")
    with pytest.raises(SampleError, match="VBench gives no imaging_quality for the clip") as caught:
        make().score(media, asked)
    assert set(caught.value.causes) == {2}
    assert caught.value.value.isnan().tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("fail", r"VBench fails: AssertionError: File amt-s.pth does not exist\.\."),
        ("other layout", "not in the form of version 0.1.5"),
    ],
)
def test_a_failure_is_an_error(package: Callable[[], Any], text: str, phrase: str) -> None:
    with pytest.raises(RewardError, match=phrase):
        make().score(clips(), prompts("a cat", "a dog", text))


def test_what_is_no_clip(package: Callable[[], Any]) -> None:
    for wrong in (clips()[:, 0], clips(frames=2), clips()[:, :, :1]):
        with pytest.raises(RewardError, match=r"scores clips of shape \(B, T, 3, H, W\)"):
            make().score(wrong, prompts(*TEXTS))


def test_wrong_options(package: Callable[[], Any]) -> None:
    with pytest.raises(RewardError, match="dimension 'human_action' is none of subject_cons"):
        make(dimensions="subject_consistency,human_action")
    with pytest.raises(RewardError, match="clip_fps must be above 0"):
        make(clip_fps=0.0)


def test_an_environment_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "vbench", raising=False)
    if importlib.util.find_spec("vbench") is None:
        with pytest.raises(RewardError, match="Reward 'vbench' needs vbench"):
            make()
    (tmp_path / "vbench").mkdir()
    (tmp_path / "vbench" / "__init__.py").write_text("from pkg_resources import no_such_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RewardError, match="can't import VBench: "):
        make()
    sys.modules.pop("vbench", None)


def test_the_file_shows_the_clip(tmp_path: Path) -> None:
    clip = clips(1, 5)[0]
    write_clip(tmp_path / "a.mp4", clip, fps=12.5)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == 12.5
        read = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    levels = (255 * clip).round().movedim(1, -1).numpy()
    assert read.shape == levels.shape
    assert np.abs(read - levels).max() <= 3
    assert np.abs(read - levels).mean() < 1


def test_results_are_read_by_the_files_number() -> None:
    entry = [{"video_path": f"/x/{i:06d}.mp4", "video_results": i / 10} for i in (12, 3, 0)]
    assert read_results([0.5, entry], "subject_consistency") == {12: 1.2, 3: 0.3, 0: 0.0}
    moving = [{"video_path": "000001.mp4", "video_results": True}]
    assert read_results(json.loads(json.dumps([1.0, moving])), "dynamic_degree") == {1: 1.0}
    assert read_results([0.0, entry], "imaging_quality")[12] == pytest.approx(0.012)


@pytest.mark.skipif(importlib.util.find_spec("vbench") is None, reason="vbench is not installed")
def test_the_real_package() -> None:
    """Signature of the calls, and the one dimension that needs no weights, end to end."""
    real = importlib.import_module("vbench").VBench
    assert list(inspect.signature(real).parameters) == ["device", "full_info_dir", "output_path"]
    parameters = inspect.signature(real.evaluate).parameters
    wanted = {"videos_path", "name", "prompt_list", "dimension_list", "local", "read_frame", "mode"}
    assert wanted <= set(parameters)
    assert set(DIMENSIONS) < set(real("cpu", "", ".").build_full_dimension_list())
    media = clips()
    found = make(dimensions="temporal_flickering").score(media, prompts(*TEXTS))
    levels = (255 * media).round()
    expected = 1 - levels.diff(dim=1).abs().mean((1, 2, 3, 4)) / 255
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)
