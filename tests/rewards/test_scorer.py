"""The scorer: a failed reward is a status and a sentence, never a number."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts, Scores, Status
from ddrl.rewards.base import SampleError
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.scorer import FailurePolicy, Scorer

SIZE = 8
GROUP = torch.arange(2).repeat_interleave(4)
TEXTS = ("ant", "ant", "ant", "ant", "bee", "bee", "bee", "bee")
PROMPTS = Prompts(torch.tensor([3] * 4 + [5] * 4), TEXTS, tuple({} for _ in TEXTS))
MEDIA = torch.zeros(SIZE, 3, 2, 2)
POLICIES: list[FailurePolicy] = ["drop_sample", "drop_group", "abort"]
nan, inf = math.nan, math.inf


class Returns:
    """Returns (or raises) what it is told."""

    def __init__(self, value: object) -> None:
        self.value = value

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        assert len(media) == len(prompts) == SIZE
        assert not torch.is_grad_enabled()
        if isinstance(self.value, Exception):
            raise self.value
        return cast(Tensor, self.value)


def good(*, at: dict[int, float] | None = None) -> Tensor:
    value = torch.arange(SIZE).float()
    for index, bad in (at or {}).items():
        value[index] = bad
    return value


def score(
    *values: object,
    policy: FailurePolicy = "abort",
    share: float = 0.25,
    weights: tuple[float, ...] = (1.0, 10.0),
) -> Scores:
    rewards = [
        WeightedReward(name, Returns(value), weight)
        for name, value, weight in zip(("first", "second"), values, weights, strict=False)
    ]
    return Scorer(rewards, on_failure=policy, max_failed_share=share).score(MEDIA, PROMPTS, GROUP)


@pytest.mark.parametrize("policy", POLICIES)
def test_all_good(policy: FailurePolicy) -> None:
    scores = score(good(), torch.ones(SIZE), policy=policy)
    assert scores.names == ("first", "second")
    assert torch.equal(scores.value, torch.stack([good(), torch.ones(SIZE)], dim=1))
    assert torch.equal(scores.combined, good() + 10)
    assert scores.valid.all()
    assert not scores.status.any()


@pytest.mark.parametrize("value", [good().double(), good().long(), good().requires_grad_()])
def test_any_number_type_becomes_float32_without_a_graph(value: Tensor) -> None:
    scores = score(value)
    assert scores.combined.dtype == torch.float32
    assert not scores.combined.requires_grad
    assert torch.equal(scores.combined, good())


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_a_sample_that_is_not_finite_is_dropped(
    bad: float, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        scores = score(good(), good(at={2: bad}), policy="drop_sample")
    assert scores.valid.tolist() == [True, True, False, True, True, True, True, True]
    assert scores.status[2].tolist() == [Status.OK, Status.NOT_FINITE]
    assert float(scores.value[2, 0]) == 2
    assert math.isnan(float(scores.value[2, 1]))
    assert float(scores.combined[2]) == 0
    assert torch.equal(scores.combined[3:], 11 * good()[3:])
    (record,) = caplog.records
    text = record.getMessage()
    assert "'second'" in text
    assert f"returned {bad} for 1 of 8 samples" in text
    assert "sample 2 ('ant')" in text


def test_a_group_is_dropped_with_its_sample() -> None:
    scores = score(good(at={5: nan}), policy="drop_group")
    assert scores.valid.tolist() == [True] * 4 + [False] * 4
    assert scores.status[:, 0].tolist() == [0, 0, 0, 0, 0, Status.NOT_FINITE, 0, 0]
    assert scores.combined.tolist() == [0, 1, 2, 3, 0, 0, 0, 0]


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_abort_names_reward_sample_and_cause(bad: float) -> None:
    with pytest.raises(RewardError) as caught:
        score(good(), good(at={6: bad, 7: nan}))
    text = caught.value.message
    assert text.startswith(f"reward 'second' returned {bad} for 2 of 8 samples")
    assert "sample 6 ('bee')" in text
    assert "drop_sample" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "phrase"),
    [
        (RewardError("no class 'emu'"), "reward 'second' failed: no class 'emu'"),
        (ValueError("odd"), "reward 'second' failed on 8 samples: ValueError: odd"),
        (KeyError("x"), "reward 'second' failed on 8 samples: KeyError: 'x'"),
        (torch.OutOfMemoryError("full"), "reward 'second' failed on 8 samples: OutOfMemoryError"),
    ],
)
def test_a_reward_that_raises(error: Exception, phrase: str) -> None:
    with pytest.raises(RewardError, match=phrase):
        score(good(), error)


@pytest.mark.parametrize("rest", [nan, 7.0])
def test_samples_that_a_reward_gives_up_on(rest: float, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever value they come with; the others keep theirs, and one of those is not finite."""
    error = SampleError(good(at={2: rest, 5: inf}), {2: "no quote", 1: "no text"}, hint="quote")
    with caplog.at_level(logging.WARNING):
        scores = score(error, policy="drop_sample", share=1.0)
    assert scores.status[:, 0].tolist() == [0, Status.ERROR, Status.ERROR, 0, 0, 2, 0, 0]
    assert scores.value[:, 0].isnan().tolist() == [False, True, True, False, False, True] + 2 * [
        False
    ]
    assert scores.combined.tolist() == [0, 0, 0, 3, 4, 0, 6, 7]
    (record,) = caplog.records
    text = record.getMessage()
    assert "'first' failed on 2 of 8 samples, the first is sample 1 ('ant'): no text" in text
    assert "'first' returned inf for 1 of 8 samples, the first is sample 5 ('bee')" in text


def test_the_hint_of_a_reward_is_passed_on() -> None:
    error = SampleError(good(), {6: "the prompt has no quotation marks"}, hint="quote it")
    with pytest.raises(RewardError) as caught:
        score(good(), error)
    assert caught.value.message == (
        "reward 'second' failed on 1 of 8 samples, the first is sample 6 ('bee'): the prompt has "
        "no quotation marks."
    )
    assert caught.value.hint == "quote it"
    with pytest.raises(RewardError) as caught:
        score(RewardError("There is no class 'emu'.", hint="did you mean 'ant'?"))
    assert caught.value.message == "reward 'first' failed: There is no class 'emu'."
    assert caught.value.hint == "did you mean 'ant'?"


def test_sample_errors_of_another_shape_stop() -> None:
    with pytest.raises(RewardError, match=r"'first' returned \(3,\) for 8 samples"):
        score(SampleError(torch.zeros(3), {0: "x"}), policy="drop_sample")


@pytest.mark.parametrize("policy", ["drop_sample", "drop_group"])
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_reward_that_raises_leaves_nothing_to_train_on(
    policy: FailurePolicy, share: float
) -> None:
    """Whatever the limit: a batch without any reward is not a batch of zeros."""
    with pytest.raises(RewardError, match="'second' failed on 8 samples: ValueError: odd"):
        score(good(), ValueError("odd"), policy=policy, share=share)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("value", "found"),
    [
        (torch.zeros(SIZE, 1), r"\(8, 1\)"),
        (torch.zeros(SIZE - 1), r"\(7,\)"),
        (torch.zeros(()), r"\(\)"),
        ([0.0] * SIZE, "list"),
        (1.0, "float"),
        (None, "NoneType"),
    ],
)
def test_a_wrong_shape_or_type_stops_under_every_policy(
    policy: FailurePolicy, value: object, found: str
) -> None:
    with pytest.raises(RewardError, match=f"'second' returned .*{found}.* for 8 samples") as caught:
        score(good(), value, policy=policy, share=1.0)
    assert "one float per sample" in caught.value.hint


@pytest.mark.parametrize("policy", ["drop_sample", "drop_group"])
def test_the_share_of_failures_has_a_limit(policy: FailurePolicy) -> None:
    two = good(at={0: nan, 1: nan})
    assert not score(two, policy=policy, share=0.25).valid[:2].any()
    with pytest.raises(RewardError, match=r"38% .* above the limit of 25%.*'first'") as caught:
        score(good(at={0: nan, 1: nan, 2: inf}), policy=policy, share=0.25)
    assert "max_failed_share" in caught.value.hint
    assert score(good(at={0: nan, 1: nan, 2: inf}), policy=policy, share=0.5).valid.any()


def test_drop_group_stops_when_every_group_is_gone() -> None:
    with pytest.raises(RewardError, match="No sample of the batch"):
        score(good(at={0: nan, 7: nan}), policy="drop_group", share=1.0)


def test_both_rewards_causes_are_told() -> None:
    with pytest.raises(RewardError, match=r"'first'.*; .*'second'"):
        score(good(at={0: nan}), good(at={1: nan}))


def test_a_reward_of_weight_0_is_measured_and_not_optimised() -> None:
    scores = score(good(), 7 * good(), weights=(1.0, 0.0))
    assert torch.equal(scores.combined, good())
    assert torch.equal(scores.value[:, 1], 7 * good())


def plant(flags: list[bool]) -> Callable[[Tensor], Tensor]:
    mask = torch.tensor(flags)
    return lambda value: torch.where(mask, nan, value)


@settings(deadline=None, max_examples=50)
@given(
    one=st.lists(st.booleans(), min_size=SIZE, max_size=SIZE),
    two=st.lists(st.booleans(), min_size=SIZE, max_size=SIZE),
    policy=st.sampled_from(["drop_sample", "drop_group"]),
)
def test_whatever_fails_the_rest_is_right(
    one: list[bool], two: list[bool], policy: FailurePolicy
) -> None:
    failed = [a or b for a, b in zip(one, two, strict=True)]
    groups = [any(failed[:4])] * 4 + [any(failed[4:])] * 4
    dropped = groups if policy == "drop_group" else failed
    values = plant(one)(good()), plant(two)(good())
    if all(dropped):
        with pytest.raises(RewardError):
            score(*values, policy=policy, share=1.0)
        return
    scores = score(*values, policy=policy, share=1.0)
    assert scores.valid.tolist() == [not flag for flag in dropped]
    expected = [0.0 if flag else 11.0 * index for index, flag in enumerate(dropped)]
    assert scores.combined.tolist() == expected
    assert scores.combined.isfinite().all()
