"""A batch that is handed over in parts: bitwise what comes out of all at once, and sooner."""

from __future__ import annotations

import logging
import threading
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts, Scores, Status
from ddrl.rewards.level import plan_calls
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.combine import Combination
from ddrl.rewards.scoring.scorer import FailurePolicy, Scorer

SIZE = 12
GROUP = torch.arange(3).repeat_interleave(4)
TEXTS = ("ant",) * 4 + ("bee",) * 4 + ("cat",) * 4
PROMPTS = Prompts(GROUP, TEXTS, tuple({} for _ in TEXTS))
MEDIA = torch.rand((SIZE, 3, 2, 2), generator=torch.Generator().manual_seed(0))


class Noted:
    """Brightness; NaN for some samples, told by their brightness; notes its calls."""

    def __init__(self, *bad: int) -> None:
        self._bad = MEDIA[list(bad)].flatten(1).sum(1)
        self.calls: list[int] = []
        self.threads: set[threading.Thread] = set()

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        assert len(media) == len(prompts)
        self.calls.append(len(media))
        self.threads.add(threading.current_thread())
        value = media.flatten(1).sum(1)
        return value.where(~torch.isin(value, self._bad), torch.nan)


def in_parts(scorer: Scorer, size: int) -> Scores:
    with scorer.begin(PROMPTS, GROUP, part_size=size) as scoring:
        for start in range(0, SIZE, size):
            scoring.add(MEDIA[start : start + size])
        return scoring.result()


@pytest.mark.parametrize("combination", ["sum", "normalized", "lower_confidence"])
@pytest.mark.parametrize("policy", ["drop_sample", "drop_group"])
@pytest.mark.parametrize("size", [1, 3, 5, 11])
@pytest.mark.parametrize("samples_per_call", [0, 2, 5])
def test_parts_are_bitwise_the_whole(
    combination: Combination,
    policy: FailurePolicy,
    size: int,
    samples_per_call: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def scorer() -> Scorer:
        rewards = [
            WeightedReward("one", Noted(6, 7), 2.0, samples_per_call=samples_per_call),
            WeightedReward("two", Noted(), 0.5, samples_per_call=samples_per_call),
        ]
        return Scorer(rewards, on_failure=policy, max_failed_share=0.5, combination=combination)

    with caplog.at_level(logging.WARNING):
        parts, whole = in_parts(scorer(), size), scorer().score(MEDIA, PROMPTS, GROUP)
    for name in ("value", "status", "combined", "valid", "weighted_sum"):
        torch.testing.assert_close(
            getattr(parts, name), getattr(whole, name), rtol=0, atol=0, equal_nan=True
        )
    assert "sample 6 ('bee')" in caplog.records[0].getMessage()
    assert "sample 6 ('bee')" in caplog.records[1].getMessage()


def test_the_limit_on_failures_is_that_of_the_whole_batch() -> None:
    scorer = Scorer([WeightedReward("one", Noted(0, 1))], on_failure="drop_sample")
    assert in_parts(scorer, 2).valid.tolist() == [False] * 2 + [True] * 10


@pytest.mark.parametrize(
    ("size", "samples_per_call", "calls"),
    [(5, 0, [5, 5, 2]), (5, 4, [4, 4, 4]), (3, 7, [7, 5]), (5, 99, [12])],
)
def test_calls_are_a_matter_of_the_batch_and_not_of_time(
    size: int, samples_per_call: int, calls: list[int]
) -> None:
    reward = Noted()
    in_parts(Scorer([WeightedReward("r", reward, samples_per_call=samples_per_call)]), size)
    assert reward.calls == calls
    assert threading.current_thread() not in reward.threads


@settings(deadline=None, max_examples=80)
@given(
    group=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    part=st.integers(1, 12),
    limit=st.integers(0, 12),
    whole=st.booleans(),
)
def test_every_sample_is_in_one_call_that_can_be_made_when_its_turn_comes(
    group: list[int], part: int, limit: int, whole: bool
) -> None:
    size = len(group)
    ends = [min(start + part, size) for start in range(0, size, part)]
    calls = plan_calls(torch.tensor(group), ends, whole_groups=whole, samples_per_call=limit)
    assert sorted(row for rows in calls for row in rows) == list(range(size))
    assert [max(rows) for rows in calls] == sorted(max(rows) for rows in calls)
    for rows in calls:
        assert list(rows) == sorted(rows)
        groups = {group[row] for row in rows}
        if whole:
            assert all(row in rows for row in range(size) if group[row] in groups)
        if limit and len(rows) > limit:
            assert whole
            assert len(groups) == 1


def test_a_hang_is_measured_from_the_last_samples(caplog: pytest.LogCaptureFixture) -> None:
    """A rollout that takes longer than the timeout does not use it up."""
    slow = Noted()
    scorer = Scorer([WeightedReward("slow", slow, timeout=0.4)])
    with scorer.begin(PROMPTS, GROUP, part_size=6) as scoring:
        scoring.add(MEDIA[:6])
        time.sleep(0.6)
        scoring.add(MEDIA[6:])
        assert scoring.result().valid.all()
    release = threading.Event()

    class Hangs(Noted):
        def score(self, media: Tensor, prompts: Prompts) -> Tensor:
            if self.calls:
                release.wait()
            return super().score(media, prompts)

    scorer = Scorer(
        [WeightedReward("hangs", Hangs(), timeout=0.2)],
        on_failure="drop_sample",
        max_failed_share=1,
    )
    with caplog.at_level(logging.WARNING):
        scores = in_parts(scorer, 8)
    release.set()
    assert scores.status[:, 0].tolist() == [Status.OK] * 8 + [Status.TIMEOUT] * 4
    assert "4 of 12 samples, from sample 8 ('cat') on, in 0.2 s" in caplog.text


def test_a_batch_that_is_given_up_is_not_waited_for() -> None:
    """Whatever stops the rollout: calls are not waited for, and threads that wait go home."""
    reward, before = Noted(), threading.active_count()
    scorer = Scorer([WeightedReward("r", reward)])
    with scorer.begin(PROMPTS, GROUP, part_size=4) as scoring:
        scoring.add(MEDIA[:4])
    start = time.monotonic()
    while threading.active_count() > before and time.monotonic() < start + 5:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert reward.calls in ([], [4])
    assert scorer.score(MEDIA, PROMPTS, GROUP).valid.all()  # its lane is free again


def test_a_wrong_shape_of_a_part_stops() -> None:
    class Wide(Noted):
        def score(self, media: Tensor, prompts: Prompts) -> Tensor:
            return media.flatten(1)

    with pytest.raises(RewardError, match=r"'r' returned \(4, 12\) for 4 samples"):
        in_parts(Scorer([WeightedReward("r", Wide())], on_failure="drop_sample"), 4)
    (column,) = Scorer([WeightedReward("r", Wide())]).measure(MEDIA, PROMPTS, GROUP)
    assert column.value.isnan().all()
    assert "returned (12, 12) for 12 samples" in column.cause


def test_timeouts_of_several_rewards_do_not_add_up() -> None:
    """Each has until its own timeout after the last samples, whatever was waited for before."""
    done = threading.Event()

    class Waits:
        def score(self, media: Tensor, prompts: Prompts) -> Tensor:
            done.wait(30)
            return media.flatten(1).sum(1)

    rewards = [WeightedReward(f"reward {i}", Waits(), timeout=0.3) for i in range(6)]
    scorer = Scorer(rewards, on_failure="drop_sample", max_failed_share=1)
    start = time.monotonic()
    try:
        columns = scorer.measure(MEDIA, PROMPTS, GROUP)
        seconds = time.monotonic() - start
    finally:
        done.set()
    assert all((column.status == Status.TIMEOUT).all() for column in columns)
    assert 0.3 <= seconds < 1.2  # one after another they would take 1.8
