"""The aesthetic predictor, against CLIP's features and the product of its layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.rewards.rendering import noise, prompts
from tests.rewards.tiny_clip import write_clip
from tests.rewards.weights import altered, refused
from torch import Tensor
from transformers import CLIPModel

from ddrl.errors import WeightsError
from ddrl.rewards.base import Reward, make_reward
from ddrl.rewards.builtin.preference.aesthetic import FILE
from ddrl.rewards.networks.pixels import cropped_square
from ddrl.testing.rewards import check_reward

SIZES = (16, 9, 8, 7, 6, 1)  # the released ones: 768, 1024, 128, 64, 16, 1
ASKED = prompts("a", "b", "c")


def head_state() -> dict[str, Tensor]:
    """The released layout: linear layers between dropouts, which hold nothing."""
    draw = torch.Generator().manual_seed(1)
    state = {}
    for i, into, out in zip((0, 2, 4, 6, 7), SIZES[:-1], SIZES[1:], strict=True):
        state[f"layers.{i}.weight"] = torch.randn((out, into), generator=draw)
        state[f"layers.{i}.bias"] = torch.randn((out,), generator=draw)
    return state


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def head(tmp_path: Path) -> Path:
    torch.save(head_state(), tmp_path / FILE)
    return tmp_path


def reward(head: Path, clip: Path, **options: object) -> Reward:
    return make_reward("aesthetic", {"weights": str(head), "clip": str(clip), **options})


def test_it_is_linear_in_the_features_of_length_one(head: Path, clip: Path) -> None:
    """Layers without anything between them are one layer: its slope is their product."""
    media, state = noise(3, 3, 40, 60), head_state()
    slope, shift = torch.eye(SIZES[0]), torch.zeros(SIZES[0])
    for i in (0, 2, 4, 6, 7):
        slope = state[f"layers.{i}.weight"] @ slope
        shift = state[f"layers.{i}.weight"] @ shift + state[f"layers.{i}.bias"]
    model = CLIPModel.from_pretrained(clip).eval()
    with torch.no_grad():
        seen = model.vision_model(pixel_values=cropped_square(media, 28)).pooler_output
        features = seen @ model.visual_projection.weight.T
    expected = (slope @ (features / features.norm(dim=-1, keepdim=True)).T + shift[:, None])[0]
    found = reward(head, clip).score(media, ASKED)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    assert float(expected.std()) > 0.1


def test_the_prompt_does_not_count_and_frames_do(head: Path, clip: Path) -> None:
    media = noise(3, 5, 3, 28, 28)
    mean, most = (reward(head, clip, frames=3, over_frames=how) for how in ("mean", "max"))
    each = torch.stack([mean.score(media[:, t], ASKED) for t in (0, 2, 4)], dim=1)
    torch.testing.assert_close(mean.score(media, prompts("x", "y", "z")), each.mean(1))
    torch.testing.assert_close(most.score(media, ASKED), each.amax(1))


@pytest.mark.parametrize(
    ("name", "value", "phrase"),
    [
        ("layers.4.weight", None, r"has no layers.4.weight \(1 in all\)"),
        ("layers.1.weight", torch.ones(1), r"no place for: layers.1.weight \(1 in all\)"),
        ("layers.0.weight", torch.ones(9, 12), "do not lead from 16 features to one score"),
        ("layers.7.bias", torch.ones(2), "do not lead from 16 features to one score"),
    ],
)
def test_weights_that_are_not_all_there(
    head: Path, clip: Path, name: str, value: Tensor | None, phrase: str
) -> None:
    torch.save(altered(head_state(), name, value), head / FILE)
    with refused(phrase, head):
        reward(head, clip)


def test_files_that_are_missing(head: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"There is no sac\+logos"):
        reward(tmp_path / "empty", clip)
    with pytest.raises(WeightsError, match="can't be loaded"):
        reward(head, tmp_path / "empty")


def test_an_old_file_of_torch_save_is_read(head: Path, clip: Path) -> None:
    """As it was before files were zip archives."""
    media = noise(3, 3, 28, 28)
    expected = reward(head, clip).score(media, ASKED)
    torch.save(head_state(), head / FILE, _use_new_zipfile_serialization=False)
    assert torch.equal(reward(head, clip).score(media, ASKED), expected)


def test_it_keeps_to_the_contract(head: Path, clip: Path) -> None:
    check_reward(reward(head, clip, frames=2), noise(3, 3, 40, 60), ASKED)
