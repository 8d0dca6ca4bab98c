"""The reward keeps ddrl's contract, and measures what it says."""

from __future__ import annotations

import pytest
import torch
from my_reward import Sharpness
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.base import make_reward
from ddrl.testing.rewards import check_reward


def prompts(count: int) -> Prompts:
    return Prompts(torch.arange(count), ("a picture",) * count, ({},) * count)


def pictures(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(4, 3, 8, 9), (4, 5, 3, 8, 9)])
@pytest.mark.parametrize("over_frames", ["mean", "worst"])
def test_the_contract(shape: tuple[int, ...], over_frames: str) -> None:
    reward = make_reward("sharpness", {"scale": 2.0, "over_frames": over_frames})
    assert isinstance(reward, Sharpness)
    check_reward(reward, pictures(*shape), prompts(4))


def test_what_it_measures() -> None:
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    flat = torch.full((8, 8), 0.5)
    media = torch.stack([board.float(), flat, 0.5 * board])[:, None].expand(-1, 3, -1, -1)
    assert Sharpness(scale=3.0).score(media, prompts(3)).tolist() == [3.0, 0.0, 1.5]
    clip = media[None, :2]
    assert Sharpness().score(clip, prompts(1)).tolist() == [0.5]
    assert Sharpness(over_frames="worst").score(clip, prompts(1)).tolist() == [0.0]


def test_what_it_refuses() -> None:
    with pytest.raises(RewardError, match="at least 2 x 2 pixels, not 1 x 9"):
        Sharpness().score(pictures(2, 3, 1, 9), prompts(2))
    with pytest.raises(RewardError, match="scale must be above 0"):
        make_reward("sharpness", {"scale": 0.0})
