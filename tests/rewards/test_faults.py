"""Faults that are put into rewards: none of them becomes a number, and none is waited for."""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.request import urlopen

import pytest
import torch
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts, Scores, Status
from ddrl.rewards.base import SampleError
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.scorer import FailurePolicy, Scorer

SIZE = 8
GROUP = torch.arange(2).repeat_interleave(4)
TEXTS = ("ant",) * 4 + ("bee",) * 4
PROMPTS = Prompts(torch.arange(2).repeat_interleave(4), TEXTS, tuple({} for _ in TEXTS))
MEDIA = torch.rand((SIZE, 3, 2, 2), generator=torch.Generator().manual_seed(0))
POLICIES: list[FailurePolicy] = ["drop_sample", "drop_group", "abort"]
LONG = 60.0  # more than a test may take


class Calls:
    """Brightness, after what is planted in each call: the first plan, then the second, ..."""

    def __init__(self, *plans: Callable[[], object]) -> None:
        self._plans = plans
        self.threads: list[threading.Thread] = []

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        self.threads.append(threading.current_thread())
        if len(self.threads) <= len(self._plans):
            self._plans[len(self.threads) - 1]()
        return media.flatten(1).mean(1)


def raises(error: Exception) -> Callable[[], object]:
    def plan() -> None:
        raise error

    return plan


def score(*rewards: WeightedReward, policy: FailurePolicy = "abort", share: float = 1.0) -> Scores:
    scorer = Scorer(rewards, on_failure=policy, max_failed_share=share, pause=0.001)
    return scorer.score(MEDIA, PROMPTS, GROUP)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What hanging rewards wait for; set at the end, so that no thread stays."""
    event = threading.Event()
    yield event
    event.set()


def test_one_reward_without_a_timeout_stays_in_this_thread() -> None:
    alone = Calls()
    score(WeightedReward("alone", alone))
    assert alone.threads == [threading.current_thread()]
    timed, beside = Calls(), Calls()
    score(WeightedReward("timed", timed, timeout=LONG))
    score(WeightedReward("timed", timed), WeightedReward("beside", beside))
    assert threading.current_thread() not in timed.threads + beside.threads
    assert all(thread.daemon for thread in timed.threads + beside.threads)


def test_rewards_run_at_the_same_time_and_give_what_they_give_alone() -> None:
    meeting = threading.Barrier(3)
    rewards = [Calls(lambda: meeting.wait(10)) for _ in range(3)]
    together = score(*(WeightedReward(str(i), one, 2.0**i) for i, one in enumerate(rewards)))
    assert together.names == ("0", "1", "2")
    alone = score(WeightedReward("alone", Calls()))
    assert torch.equal(together.value, alone.value.expand(-1, 3))
    assert torch.equal(together.combined, alone.value.expand(-1, 3) @ torch.tensor([1.0, 2, 4]))
    assert torch.equal(together.combined, together.weighted_sum)


def test_gradients_are_off_in_every_thread() -> None:
    seen: list[bool] = []
    look = Calls(lambda: seen.append(torch.is_grad_enabled()))
    score(WeightedReward("timed", look, timeout=LONG))
    assert seen == [False]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_reward_that_hangs_is_not_waited_for(
    policy: FailurePolicy, release: threading.Event
) -> None:
    reward = Calls(release.wait)
    hangs = WeightedReward("hangs", reward, timeout=0.2, retries=3)
    start = time.monotonic()
    with pytest.raises(RewardError) as caught:
        score(WeightedReward("fine", Calls()), hangs, policy=policy)
    assert 0.2 <= time.monotonic() - start < 5
    assert "reward 'hangs' gave no answer for 8 samples in 0.2 s" in caught.value.message
    assert "'fine'" not in caught.value.message
    assert len(reward.threads) == 1  # no retry of what hangs


def test_a_slow_reward_is_in_time() -> None:
    slow = Calls(lambda: time.sleep(0.3))
    assert score(WeightedReward("slow", slow, timeout=LONG)).valid.all()
    assert score(WeightedReward("slow", Calls(lambda: time.sleep(0.3)))).valid.all()


def test_a_reward_that_hangs_is_not_called_again_until_it_is_done(
    release: threading.Event,
) -> None:
    reward = Calls(release.wait)
    scorer = Scorer([WeightedReward("hangs", reward, timeout=0.1)])
    for _ in range(3):
        with pytest.raises(RewardError, match="'hangs' gave no answer"):
            scorer.score(MEDIA, PROMPTS, GROUP)
    assert len(reward.threads) == 1
    release.set()
    reward.threads[0].join(10)
    assert torch.equal(scorer.score(MEDIA, PROMPTS, GROUP).combined, MEDIA.flatten(1).mean(1))
    assert len(reward.threads) == 2  # those that nobody waited for were never made


def test_what_raises_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    reward = Calls(raises(ValueError("no route")), raises(ConnectionResetError("cut")))
    with caplog.at_level(logging.WARNING):
        scores = score(WeightedReward("remote", reward, retries=2))
    assert scores.valid.all()
    assert not scores.status.any()
    first, second = (record.getMessage() for record in caplog.records)
    assert first == (
        "reward 'remote' failed on 8 samples: ValueError: no route; trying again in 0.001 s"
    )
    assert "ConnectionResetError: cut, at attempt 2; trying again in 0.002 s" in second


def test_retries_are_bounded() -> None:
    reward = Calls(*(raises(ValueError(f"try {i}")) for i in range(9)))
    with pytest.raises(RewardError) as caught:
        score(WeightedReward("remote", reward, retries=2))
    assert caught.value.message.endswith("ValueError: try 2, at attempt 3.")
    assert len(reward.threads) == 3


def test_pauses_double_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ddrl.rewards.scoring.attempt.LONGEST_PAUSE", 0.005)
    reward = Calls(*(raises(ValueError("down")) for _ in range(5)))
    with caplog.at_level(logging.WARNING):
        assert score(WeightedReward("remote", reward, retries=5)).valid.all()
    pauses = [record.getMessage().rpartition("again in ")[2] for record in caplog.records]
    assert pauses == ["0.001 s", "0.002 s", "0.004 s", "0.005 s", "0.005 s"]


def test_retries_end_with_the_timeout() -> None:
    reward = Calls(*(raises(ValueError("down")) for _ in range(99)))
    scorer = Scorer([WeightedReward("remote", reward, timeout=0.2, retries=99)], pause=0.15)
    with pytest.raises(RewardError, match=r"'remote' gave no answer for 8 samples in 0\.2 s"):
        scorer.score(MEDIA, PROMPTS, GROUP)
    reward.threads[0].join(10)
    assert not reward.threads[0].is_alive()
    assert len(reward.threads) == 2  # at 0 s and 0.15 s


def test_what_is_not_finite_is_not_tried_again() -> None:
    class NotFinite(Calls):
        def score(self, media: Tensor, prompts: Prompts) -> Tensor:
            return super().score(media, prompts).index_fill(0, torch.tensor([2]), math.nan)

    reward = NotFinite()
    scores = score(WeightedReward("odd", reward, retries=5), policy="drop_sample")
    assert scores.status[:, 0].tolist() == [0, 0, Status.NOT_FINITE, 0, 0, 0, 0, 0]
    assert len(reward.threads) == 1


def test_samples_that_have_no_reward_are_not_tried_again() -> None:
    reward = Calls(raises(SampleError(torch.zeros(SIZE), {3: "no quote"})))
    scores = score(WeightedReward("reads", reward, retries=5, timeout=LONG), policy="drop_sample")
    assert scores.status[:, 0].tolist() == [0, 0, 0, Status.ERROR, 0, 0, 0, 0]
    assert len(reward.threads) == 1


def _refused() -> None:
    with socket.socket() as probe:  # a port that is free, hence closed
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    urlopen(f"http://127.0.0.1:{port}", timeout=5)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("timeout", [0.0, LONG])
@pytest.mark.parametrize(
    ("plan", "phrase"),
    [
        (_refused, "'faulty' failed on 8 samples: URLError: .*refused"),
        (raises(ValueError("odd")), "'faulty' failed on 8 samples: ValueError: odd"),
        (raises(MemoryError("full")), "'faulty' failed on 8 samples: MemoryError: full"),
        (raises(TimeoutError("read")), "'faulty' failed on 8 samples: TimeoutError: read"),
        (raises(RewardError("No such class.")), "'faulty' failed: No such class"),
    ],
)
def test_what_raises_ends_the_run_and_says_why(
    plan: Callable[[], object], phrase: str, timeout: float, policy: FailurePolicy
) -> None:
    """In whichever thread, and whatever the policy, as no sample is left."""
    with pytest.raises(RewardError, match=phrase):
        score(
            WeightedReward("fine", Calls()),
            WeightedReward("faulty", Calls(plan), timeout=timeout),
            policy=policy,
        )


def test_a_wrong_shape_in_a_thread_stops_under_every_policy() -> None:
    class WrongShape:
        def score(self, media: Tensor, prompts: Prompts) -> Tensor:
            return media.mean((-1, -2))

    for policy in POLICIES:
        with pytest.raises(RewardError, match=r"'wide' returned \(8, 3\) for 8 samples"):
            score(WeightedReward("wide", WrongShape(), timeout=LONG, retries=2), policy=policy)


def test_an_exit_in_a_thread_is_an_exit() -> None:
    with pytest.raises(SystemExit):
        score(WeightedReward("exits", Calls(lambda: exit(3)), timeout=LONG))


@pytest.mark.parametrize("combination", ["normalized", "lower_confidence"])
def test_another_combination_is_trained_on_and_raw_values_are_kept(combination: str) -> None:
    scorer = Scorer(
        [WeightedReward("one", Calls(), 2.0), WeightedReward("two", Calls(), 2.0)],
        combination=combination,  # type: ignore[arg-type]
        kappa=3.0,
    )
    scores = scorer.score(MEDIA, PROMPTS, GROUP)
    brightness = MEDIA.flatten(1).mean(1)
    assert torch.equal(scores.value, brightness[:, None].expand(-1, 2))
    assert torch.equal(scores.weighted_sum, 4 * brightness)
    z = (brightness - brightness.mean()) / brightness.std(correction=0)
    torch.testing.assert_close(scores.combined, 4 * z if combination == "normalized" else z)
