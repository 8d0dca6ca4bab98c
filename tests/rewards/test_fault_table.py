"""The table of faults: each of them under each policy, and what becomes of batch and log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from tests.rewards.faulty import RELEASE, Faulty

from ddrl.errors import RewardError
from ddrl.records import Prompts, Scores, Status
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.scorer import FailurePolicy, Scorer
from ddrl.testing.require import ConformanceError
from ddrl.testing.rewards import check_reward

SIZE = 8
GROUP = torch.arange(2).repeat_interleave(4)
TEXTS = ("ant",) * 4 + ("bee",) * 4
PROMPTS = Prompts(GROUP, TEXTS, tuple({} for _ in TEXTS))
MEDIA = torch.arange(1.0, SIZE + 1)[:, None, None, None].expand(-1, 3, 2, 2).contiguous()
POLICIES: list[FailurePolicy] = ["drop_sample", "drop_group", "abort"]

# The call of samples 6 and 7 fails: fault -> samples without a value, their status, the log.
FAULTS: dict[str, tuple[list[int], Status, str]] = {
    "raise": (
        [6, 7],
        Status.ERROR,
        "reward 'faulty' failed on 2 samples from sample 6 ('bee') on: ValueError: planted",
    ),
    "sample": (
        [6],
        Status.ERROR,
        "reward 'faulty' failed on 1 of 2 samples, the first is sample 6 ('bee'): planted",
    ),
    "nan": (
        [6],
        Status.NOT_FINITE,
        "reward 'faulty' returned nan for 1 of 2 samples, the first is sample 6 ('bee')",
    ),
    "inf": (
        [6],
        Status.NOT_FINITE,
        "reward 'faulty' returned inf for 1 of 2 samples, the first is sample 6 ('bee')",
    ),
    "hang": (
        [6, 7],
        Status.TIMEOUT,
        "reward 'faulty' gave no answer for 2 of 8 samples, from sample 6 ('bee') on, in 0.5 s",
    ),
}


@pytest.fixture(autouse=True)
def _release() -> Iterator[None]:
    RELEASE.clear()
    yield
    RELEASE.set()


def score(
    fault: str, policy: FailurePolicy, *, share: float = 1.0, part: int = 0, size: int = 2
) -> Scores:
    faulty = WeightedReward(
        "faulty",
        Faulty(fault=fault, at=SIZE // size - 1 if size else 0),
        timeout=0.5 if fault in ("hang", "slow") else 0.0,
        samples_per_call=size,
    )
    fine = WeightedReward("fine", Faulty(fault="none"), 10.0)
    scorer = Scorer([fine, faulty], on_failure=policy, max_failed_share=share)
    with scorer.begin(PROMPTS, GROUP, part_size=part) as scoring:
        for start in range(0, SIZE, part or SIZE):
            scoring.add(MEDIA[start : start + (part or SIZE)])
        return scoring.result()


@pytest.mark.parametrize("part", [0, 4])
@pytest.mark.parametrize("policy", ["drop_sample", "drop_group"])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_policy_is_obeyed_and_no_failure_is_a_number(
    fault: str, policy: FailurePolicy, part: int, caplog: pytest.LogCaptureFixture
) -> None:
    failed, status, log = FAULTS[fault]
    with caplog.at_level(logging.WARNING):
        scores = score(fault, policy, part=part)
    assert [row for row in range(SIZE) if scores.status[row, 1] != Status.OK] == failed
    assert all(scores.status[row, 1] == status for row in failed)
    assert scores.value[:, 1].isnan().nonzero().flatten().tolist() == failed
    dropped = [4, 5, 6, 7] if policy == "drop_group" else failed
    assert (~scores.valid).nonzero().flatten().tolist() == dropped
    expected = [0.0 if row in dropped else 11.0 * (row + 1) for row in range(SIZE)]
    assert scores.combined.tolist() == scores.weighted_sum.tolist() == expected
    assert [record.getMessage() for record in caplog.records] == [log]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_run_stops_where_failures_are_not_allowed(fault: str) -> None:
    failed, _, log = FAULTS[fault]
    with pytest.raises(RewardError) as caught:
        score(fault, "abort")
    assert caught.value.message == f"{log}."
    share = len(failed) / SIZE
    for policy in POLICIES[:2]:
        assert score(fault, policy, share=share).valid.any()
        with pytest.raises(RewardError) as caught:
            score(fault, policy, share=share - 0.01)
        assert caught.value.message.startswith(f"{share:.0%} of the samples have no reward, above")
        assert log in caught.value.message


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fault", ["raise", "hang"])
def test_a_reward_that_fails_altogether_ends_the_run(fault: str, policy: FailurePolicy) -> None:
    with pytest.raises(RewardError, match=r"reward 'faulty' (failed on|gave no answer for) 8"):
        score(fault, policy, size=0)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_wrong_shape_ends_the_run(policy: FailurePolicy) -> None:
    with pytest.raises(RewardError, match=r"'faulty' returned \(2, 1\) for 2 samples"):
        score("shape", policy)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_slow_reward_is_fine(policy: FailurePolicy) -> None:
    assert score("slow", policy).combined.tolist() == [11.0 * (row + 1) for row in range(SIZE)]


def test_a_wrong_order_is_found_by_the_conformance_check_alone() -> None:
    """The scorer can't tell it from right values; `check_reward` and the audit score twice."""
    assert score("order", "abort", size=0).value[:, 1].tolist() == list(range(SIZE, 0, -1))
    with pytest.raises(ConformanceError, match="samples in another order score otherwise"):
        check_reward(Faulty(fault="order"), MEDIA / SIZE, PROMPTS)
