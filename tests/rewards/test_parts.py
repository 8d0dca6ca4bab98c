"""A batch that is given to a reward in parts: a fault costs the samples of its part."""

from __future__ import annotations

import logging
import math
import threading

import pytest
import torch
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts, Scores, Status
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.scorer import FailurePolicy, Scorer

SIZE = 8
GROUP = torch.arange(2).repeat_interleave(4)
TEXTS = ("ant",) * 4 + ("bee",) * 4
PROMPTS = Prompts(torch.arange(2).repeat_interleave(4), TEXTS, tuple({} for _ in TEXTS))
MEDIA = torch.arange(SIZE).float()[:, None, None, None].expand(-1, 3, 2, 2)
OK, ERROR, NOT_FINITE, TIMEOUT = (int(status) for status in Status)


class InParts:
    """The number of the sample; fails in the call in which ``fault`` comes."""

    def __init__(self, fault: str = "", *, at: tuple[int, ...] = ()) -> None:
        self._fault, self._at = fault, at
        self.release = threading.Event()
        self.texts: list[tuple[str, ...]] = []

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        assert len(media) == len(prompts)
        self.texts.append(prompts.text)
        value = media.flatten(1).mean(1)
        if len(self.texts) - 1 not in self._at:
            return value
        if self._fault == "raise":
            raise ConnectionError("cut")
        if self._fault == "hang":
            self.release.wait()
        return value.index_fill(0, torch.tensor([0]), math.nan)


def score(
    reward: InParts,
    *,
    policy: FailurePolicy = "drop_sample",
    share: float = 1.0,
    timeout: float = 0.0,
    retries: int = 0,
    size: int = 3,
) -> Scores:
    entry = WeightedReward("parts", reward, timeout=timeout, retries=retries, samples_per_call=size)
    scorer = Scorer([entry], on_failure=policy, max_failed_share=share, pause=0.001)
    return scorer.score(MEDIA, PROMPTS, GROUP)


@pytest.mark.parametrize("size", [1, 3, 4, 8, 99])
@pytest.mark.parametrize("timeout", [0.0, 60.0])
def test_parts_make_the_whole(size: int, timeout: float) -> None:
    reward = InParts()
    scores = score(reward, size=size, timeout=timeout)
    assert scores.combined.tolist() == list(range(SIZE))
    assert sum(reward.texts, ()) == TEXTS
    assert {len(texts) for texts in reward.texts[:-1]} <= {size}


def test_what_raises_costs_its_part(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        scores = score(InParts("raise", at=(1,)))
    assert scores.status[:, 0].tolist() == [OK] * 3 + [ERROR] * 3 + [OK] * 2
    assert scores.value[:, 0].isnan().tolist() == (~scores.valid).tolist()
    assert scores.combined.tolist() == [0, 1, 2, 0, 0, 0, 6, 7]
    (record,) = caplog.records
    assert record.getMessage() == (
        "reward 'parts' failed on 3 samples from sample 3 ('ant') on: ConnectionError: cut"
    )


def test_or_the_groups_that_it_touches() -> None:
    scores = score(InParts("raise", at=(2,)), policy="drop_group")
    assert scores.valid.tolist() == [True] * 4 + [False] * 4


def test_or_the_run() -> None:
    with pytest.raises(RewardError, match=r"25% of the samples .* above the limit of 20%: .*cut"):
        score(InParts("raise", at=(2,)), share=0.2)
    with pytest.raises(RewardError, match=r"2 samples from sample 6 \('bee'\) on: .*cut"):
        score(InParts("raise", at=(2,)), policy="abort")


@pytest.mark.parametrize("policy", ["drop_sample", "drop_group"])
def test_what_was_answered_before_a_part_hangs_counts(
    policy: FailurePolicy, caplog: pytest.LogCaptureFixture
) -> None:
    reward = InParts("hang", at=(1,))
    with caplog.at_level(logging.WARNING):
        scores = score(reward, policy=policy, timeout=0.5, size=4)
    reward.release.set()
    assert scores.status[:, 0].tolist() == [OK] * 4 + [TIMEOUT] * 4
    assert scores.valid.tolist() == [True] * 4 + [False] * 4
    assert scores.combined.tolist() == [0, 1, 2, 3, 0, 0, 0, 0]
    (record,) = caplog.records
    assert record.getMessage() == (
        "reward 'parts' gave no answer for 4 of 8 samples, from sample 4 ('bee') on, in 0.5 s"
    )


def test_a_part_that_is_not_finite_is_named_by_its_place_in_the_batch() -> None:
    with pytest.raises(RewardError, match=r"nan for 1 of 3 samples, the first is sample 3 \('ant'"):
        score(InParts("nan", at=(1,)), policy="abort")


def test_only_the_part_that_raised_is_tried_again() -> None:
    reward = InParts("raise", at=(1, 2))
    assert score(reward, retries=2).valid.all()
    assert [len(texts) for texts in reward.texts] == [3, 3, 3, 3, 2]


def test_many_causes_are_not_all_told() -> None:
    with pytest.raises(RewardError) as caught:
        score(InParts("raise", at=tuple(range(7))), policy="abort", size=1)
    assert caught.value.message.count("ConnectionError: cut") == 2
    assert "and 5 more of its calls" in caught.value.message


def test_a_wrong_shape_of_a_part_stops() -> None:
    class Whole(InParts):
        def score(self, media: Tensor, prompts: Prompts) -> Tensor:
            return torch.zeros(SIZE)

    with pytest.raises(RewardError, match=r"returned \(8,\) for 3 samples, not shape \(3,\)"):
        score(Whole())
