"""Samples that are made and scored part by part have the rewards that they have all at once."""

from __future__ import annotations

import weakref

import pytest
import torch
from tests.rewards.faulty import Faulty
from tests.rewards.test_group_level import Spread
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.base import GroupReward, Reward
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.scorer import FailurePolicy, Scorer

SIZE = 20
MEDIA = torch.rand((SIZE, 3, 4, 4), generator=torch.Generator().manual_seed(0))
GROUP = torch.tensor([0, 1, 2, 3, 4] * 4)
PROMPTS = Prompts(GROUP, tuple(f"prompt {i}" for i in GROUP.tolist()), tuple({} for _ in GROUP))


class Alive:
    """Makes the samples, and knows how many of them were in memory at once."""

    def __init__(self) -> None:
        self.now, self.most = 0, 0

    def __call__(self, rows: Tensor) -> Tensor:
        made = MEDIA[rows]
        self.now += len(rows)
        self.most = max(self.most, self.now)
        weakref.finalize(made, self._gone, len(rows))
        return made

    def _gone(self, count: int) -> None:
        self.now -= count


def scorer(
    *rewards: Reward | GroupReward, policy: FailurePolicy = "abort", share: float = 1.0
) -> Scorer:
    entries = [WeightedReward(f"r{i}", one, 1.0 + i) for i, one in enumerate(rewards)]
    return Scorer(entries, on_failure=policy, max_failed_share=share)


@pytest.mark.parametrize("part_size", [1, 3, 7, 20, 50])
@pytest.mark.parametrize("kinds", ["single", "two", "groups", "both"])
def test_the_same_numbers_in_bounded_memory(kinds: str, part_size: int) -> None:
    rewards: list[Reward | GroupReward] = {
        "single": [Faulty(fault="")],
        "two": [Faulty(fault=""), Faulty(fault="")],
        "groups": [Spread()],
        "both": [Faulty(fault=""), Spread()],
    }[kinds]  # type: ignore[assignment]
    alive = Alive()
    found = scorer(*rewards).score_in_parts(alive, PROMPTS, GROUP, part_size=part_size)
    expected = scorer(*rewards).score(MEDIA, PROMPTS, GROUP)
    assert torch.equal(found.value, expected.value)
    assert torch.equal(found.combined, expected.combined)
    assert found.valid.all()
    bound = max(part_size, 4) if kinds in {"groups", "both"} else part_size
    assert alive.most <= 2 * min(bound, SIZE)  # a part, and the one before while it is replaced


def test_the_limit_of_failures_is_on_all_samples() -> None:
    """One of two samples in its part, and one of twenty in all."""
    reward = Faulty(fault="nan", at=1)
    chosen = scorer(reward, policy="drop_sample", share=0.1)
    found = chosen.score_in_parts(MEDIA.__getitem__, PROMPTS, GROUP, part_size=2)
    assert found.valid.tolist() == [row != 2 for row in range(SIZE)]


def test_a_group_is_dropped_in_all_parts() -> None:
    chosen = scorer(Faulty(fault="nan", at=1), policy="drop_group")
    found = chosen.score_in_parts(MEDIA.__getitem__, PROMPTS, GROUP, part_size=2)
    assert (~found.valid).nonzero().flatten().tolist() == [2, 7, 12, 17]


def test_nothing_more_is_made_once_the_run_is_to_stop() -> None:
    alive, reward = Alive(), Faulty(fault="raise", at=1)
    with pytest.raises(RewardError, match=r"planted.*\(2 samples\)|planted"):
        scorer(reward).score_in_parts(alive, PROMPTS, GROUP, part_size=2)
    assert reward.calls == 2
