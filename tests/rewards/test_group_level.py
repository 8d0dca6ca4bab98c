"""Rewards of whole groups: they see all of a group, whatever it is split by."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from tests.rewards.rendering import prompts
from torch import Tensor
from transformers import (
    BitImageProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
)

from ddrl.errors import RewardError, WeightsError
from ddrl.records import Prompts, Scores
from ddrl.rewards.base import GroupReward, SampleError, make_reward
from ddrl.rewards.builtin.diversity import Diversity
from ddrl.rewards.frames import Runtime
from ddrl.rewards.networks.vision import VisionModel
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.testing.require import ConformanceError
from ddrl.testing.rewards import check_reward

SIZE = 12
GROUP = torch.arange(3).repeat_interleave(4)
SAME = Prompts(torch.zeros(SIZE, dtype=torch.int64), ("ant",) * SIZE, tuple({} for _ in range(12)))
MEDIA = torch.rand((SIZE, 3, 4, 4), generator=torch.Generator().manual_seed(0))


class Spread:
    """How far a sample's brightness is from its group's mean."""

    level: ClassVar[Literal["group"]] = "group"

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.seen: list[list[int]] = []

    def score(self, media: Tensor, prompts: Prompts, group: Tensor) -> Tensor:
        self.seen.append(group.tolist())
        if self.fault == "prompts":
            group = prompts.prompt_id
        if self.fault == "batch":
            group = group * 0
        if self.fault == "numbers":
            group = group % 3
        value = media.flatten(1).mean(1)
        found = torch.empty(len(media))
        for number in set(group.tolist()):
            rows = group == number
            found[rows] = (value[rows] - value[rows].nanmean()).abs()
        if self.fault == "order":
            found[0] += 1
        return found if self.fault != "zero" else found.nan_to_num(0)


def whole_groups(reward: GroupReward, part: int, size: int, group: Tensor = GROUP) -> Scores:
    scorer = Scorer([WeightedReward("spread", reward, samples_per_call=size)])
    with scorer.begin(SAME, group, part_size=part) as scoring:
        for start in range(0, SIZE, part):
            scoring.add(MEDIA[start : start + part])
        return scoring.result()


@pytest.mark.parametrize("part", [1, 3, 5, 12])
@pytest.mark.parametrize("size", [0, 1, 4, 9, 99])
@pytest.mark.parametrize("order", ["in a row", "dealt out"])
def test_no_group_is_split(part: int, size: int, order: str) -> None:
    """All groups have the same prompt: they are told apart by their number."""
    group = GROUP if order == "in a row" else torch.arange(SIZE) % 3
    reward = Spread()
    scores = whole_groups(reward, part, size, group)
    at_once = Spread().score(MEDIA, SAME, group)
    assert torch.equal(scores.combined, at_once)
    for seen in reward.seen:
        assert all(seen.count(number) == 4 for number in seen)
        assert len(seen) <= max(size or SIZE, 4)
    if size == 9:
        assert [len(seen) for seen in reward.seen] == [8, 4]


def test_a_group_is_scored_as_soon_as_it_is_complete() -> None:
    reward = Spread()
    whole_groups(reward, 5, 0)
    assert reward.seen == [[0] * 4, [1] * 4, [2] * 4]


def test_a_level_that_does_not_exist_is_refused() -> None:
    class Odd:
        level = "batch"

        def score(self, media: Tensor, prompts: Prompts) -> Tensor:
            return media.flatten(1).mean(1)

    with pytest.raises(RewardError, match="'Odd' has the level 'batch'") as caught:
        Scorer([WeightedReward("odd", Odd())])
    assert caught.value.hint == "a reward's level is one of 'sample', 'group'"


# --- conformance --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "phrase"),
    [
        ("prompts", "groups of the same prompt are taken for one|beside others"),
        ("batch", "a group alone scores otherwise than beside others"),
        ("numbers", "groups with other numbers score otherwise"),
        ("order", "samples in another order score otherwise"),
        ("zero", "NaN get a score"),
    ],
)
def test_a_planted_fault_is_found(fault: str, phrase: str) -> None:
    with pytest.raises(ConformanceError, match=phrase):
        check_reward(Spread(fault), MEDIA[:8], SAME.select(range(8)), group=torch.arange(8) // 4)


def test_a_reward_without_a_fault_passes_and_too_few_samples_do_not() -> None:
    check_reward(Spread(), MEDIA[:6], SAME.select(range(6)))
    check_reward(Spread(), MEDIA, SAME, group=torch.arange(SIZE) % 3)
    with pytest.raises(ConformanceError, match="two groups or more"):
        check_reward(Spread(), MEDIA[:4], SAME.select(range(4)))


# --- diversity ----------------------------------------------------------------------------------


def diversity(**options: object) -> Diversity:
    reward = make_reward("diversity", options)
    assert isinstance(reward, Diversity)
    return reward


def test_distances_between_pixels() -> None:
    """Grey levels 0, .25 and 1 in one group, and two equal pictures in another."""
    levels = torch.tensor([0.0, 0.25, 1.0, 0.6, 0.6])
    media = levels[:, None, None, None].expand(-1, 3, 40, 30)
    group = torch.tensor([7, 7, 7, -1, -1])
    found = diversity().score(media, prompts(*"aaaaa"), group)
    torch.testing.assert_close(found, torch.tensor([0.625, 0.5, 0.875, 0, 0]))
    clips = media[:, None].expand(-1, 6, -1, -1, -1)
    torch.testing.assert_close(diversity().score(clips, prompts(*"aaaaa"), group), found)


def test_against_all_pairs() -> None:
    media = torch.rand((6, 3, 16, 16), generator=torch.Generator().manual_seed(1))
    found = diversity().score(media, prompts(*"aaaaaa"), torch.tensor([0, 1, 0, 1, 0, 1]))
    for i in range(6):
        others = [j for j in range(6) if j != i and j % 2 == i % 2]
        apart = [float((media[i] - media[j]).square().mean().sqrt()) for j in others]
        assert float(found[i]) == pytest.approx(sum(apart) / len(apart), rel=1e-5)


def test_members_that_are_missing() -> None:
    media = torch.rand((5, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    media[1] = torch.nan
    group = torch.tensor([0, 0, 0, 1, 2])
    with pytest.raises(SampleError) as caught:
        diversity().score(media, prompts(*"aaabc"), group)
    assert caught.value.causes == dict.fromkeys([3, 4], "its group has no other sample")
    assert "group_size" in caught.value.hint
    value = caught.value.value
    assert value[1].isnan()
    apart = float((media[0] - media[2]).square().mean().sqrt())
    torch.testing.assert_close(value[[0, 2]], torch.tensor([apart, apart]))


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_distances_in_the_features_of_an_encoder(kind: str, tmp_path: Path) -> None:
    folder = str(write_encoder(kind, tmp_path))
    reward = diversity(encoder=folder, device="cpu", batch_size=3)
    media = torch.rand((6, 3, 30, 40), generator=torch.Generator().manual_seed(2))
    check_reward(reward, media, prompts(*"aaaaaa"))
    group = torch.tensor([0, 0, 0, 1, 1, 1])
    found = reward.score(media, prompts(*"aaabbb"), group)
    features = VisionModel(folder, Runtime.of("cpu", "float32", 16)).features(media).double()
    for i in range(6):
        others = [j for j in range(6) if j != i and group[j] == group[i]]
        cosines = [
            float(features[i] @ features[j] / features[i].norm() / features[j].norm())
            for j in others
        ]
        assert float(found[i]) == pytest.approx(1 - sum(cosines) / len(cosines), abs=1e-5)


def write_encoder(kind: str, folder: Path) -> Path:
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "clip":
            config = CLIPVisionConfig(image_size=32, intermediate_size=16, **size)
            CLIPVisionModel(config).save_pretrained(folder)
            CLIPImageProcessor(
                size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
            ).save_pretrained(folder)
        else:
            Dinov2Model(Dinov2Config(image_size=32, mlp_ratio=1, **size)).save_pretrained(folder)
            BitImageProcessor(
                size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
            ).save_pretrained(folder)
    return folder


def test_an_encoder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="can't be loaded") as caught:
        diversity(encoder=str(tmp_path))
    assert "image processor" in caught.value.hint


@pytest.mark.parametrize("options", [{"size": 0}, {"frames": 0}, {"batch_size": 0}])
def test_options_that_make_no_sense(options: dict[str, int]) -> None:
    with pytest.raises(RewardError, match="must be at least 1"):
        diversity(**options)
