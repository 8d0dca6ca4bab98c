"""The dealer of data of several sizes: one size a step, and every prompt in its turn."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddrl.data.groups import Dealer, Hand
from ddrl.data.sized import SizedDealer
from ddrl.errors import DataError

TRIALS = settings(deadline=None, max_examples=30)
Mode = Literal["paired", "independent"]
ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=12)
"""(prompt, size) of every data row."""


def dealer(
    rows: list[tuple[int, int]],
    *,
    per_step: int = 2,
    per_group: int = 2,
    mode: Mode = "paired",
    seed: int = 0,
) -> SizedDealer:
    """Of these rows; prompts are renumbered, so that each has data."""
    known = sorted({prompt for prompt, _ in rows})
    return SizedDealer(
        torch.tensor([known.index(prompt) for prompt, _ in rows]),
        torch.tensor([size for _, size in rows]),
        num_prompts=len(known),
        num_sizes=3,
        seed=seed,
        prompts_per_step=per_step,
        anchors_per_group=per_group,
        mode=mode,
    )


def same(one: Hand, other: Hand) -> bool:
    return (
        one.size == other.size
        and torch.equal(one.prompt_id, other.prompt_id)
        and torch.equal(one.anchor_row, other.anchor_row)
    )


@TRIALS
@given(rows=ROWS, per_step=st.integers(1, 4), per_group=st.integers(0, 3), seed=st.integers(0, 3))
def test_a_step_has_prompts_and_rows_of_one_size(
    rows: list[tuple[int, int]], per_step: int, per_group: int, seed: int
) -> None:
    one = dealer(rows, per_step=per_step, per_group=per_group, seed=seed)
    known = sorted({prompt for prompt, _ in rows})
    for step in range(12):
        hand = one.deal(step)
        assert len(hand.prompt_id) == per_step
        assert len(hand.anchor_row) == per_step * per_group
        prompts = hand.prompt_id.repeat_interleave(per_group).tolist()
        dealt = [rows[row] for row in hand.anchor_row.tolist()]
        assert dealt == [(known[prompt], hand.size) for prompt in prompts]
        assert all((known[p], hand.size) in rows for p in hand.prompt_id.tolist())


@TRIALS
@given(rows=ROWS, seed=st.integers(0, 3))
def test_every_prompt_comes_up_once_an_epoch_and_in_each_size_as_often_as_it_has_rows(
    rows: list[tuple[int, int]], seed: int
) -> None:
    """With one prompt a step nothing waits, so that the counts are exact."""
    one = dealer(rows, per_step=1, per_group=1, seed=seed)
    known = sorted({prompt for prompt, _ in rows})
    for prompt, name in enumerate(known):
        own = Counter(size for each, size in rows if each == name)
        cycle = len(known) * own.total()  # epochs in which it has had each of its rows' sizes
        hands = [one.deal(step) for step in range(cycle)]
        sizes = Counter(hand.size for hand in hands if hand.prompt_id.item() == prompt)
        assert sizes == own


def test_what_waits_for_its_size_is_dealt_later_and_never_lost() -> None:
    rows = [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1)]
    one = dealer(rows, per_step=3, per_group=0)
    hands = [one.deal(step) for step in range(50)]
    dealt = Counter(p for hand in hands for p in hand.prompt_id.tolist())
    # 150 turns are dealt, and at most 2 of each size still wait.
    assert max(dealt.values()) - min(dealt.values()) <= 3
    assert one.steps_by_size(50) == [40, 10, 0]
    assert one.steps_by_size(0) == [0, 0, 0]


@TRIALS
@given(rows=ROWS, per_step=st.integers(1, 3), mode=st.sampled_from(["paired", "independent"]))
def test_a_hand_is_a_function_of_the_step(
    rows: list[tuple[int, int]], per_step: int, mode: Mode
) -> None:
    """Whatever was asked for before, so that a resumed run deals as a straight one."""
    straight, resumed = (dealer(rows, per_step=per_step, mode=mode) for _ in range(2))
    hands = [straight.deal(step) for step in range(8)]
    for step in (7, 2, 7, 0):
        assert same(resumed.deal(step), hands[step])
    other = dealer(rows, per_step=per_step, mode=mode, seed=1)
    if len(rows) > 8:
        assert not all(same(other.deal(step), hands[step]) for step in range(8))


@TRIALS
@given(rows=ROWS)
def test_independent_rows_of_the_step_s_size_all_come_equally_often(
    rows: list[tuple[int, int]],
) -> None:
    one = dealer(rows, per_step=1, per_group=3, mode="independent")
    hands = [one.deal(step) for step in range(2 * len(rows))]
    dealt = [row for hand in hands for row in hand.anchor_row.tolist()]
    assert all(rows[r][1] == h.size for h in hands for r in h.anchor_row.tolist())
    # Sizes by the shares of the data, and of each size its rows in turn: 3 x 2 times each.
    assert Counter(dealt) == dict.fromkeys(range(len(rows)), 6)


@pytest.mark.parametrize("mode", ["paired", "independent"])
def test_with_one_size_it_deals_as_the_dealer_of_one_size(mode: Mode) -> None:
    captions = [0, 1, 1, 2, 0, 2, 2]
    common = {"num_prompts": 3, "seed": 4, "prompts_per_step": 2, "anchors_per_group": 3}
    one = Dealer(torch.tensor(captions), mode=mode, **common)
    sized = SizedDealer(
        torch.tensor(captions),
        torch.zeros(7, dtype=torch.int64),
        num_sizes=1,
        mode=mode,
        **common,
    )
    assert all(same(one.deal(step), sized.deal(step)) for step in range(20))


def test_a_prompt_without_data_has_no_size() -> None:
    arguments = {"num_sizes": 1, "seed": 0, "prompts_per_step": 1, "anchors_per_group": 0}
    data = torch.tensor([0]), torch.tensor([0])
    with pytest.raises(DataError, match="1 of 2 prompts have no data, the first is number 1"):
        SizedDealer(*data, num_prompts=2, **arguments)  # type: ignore[arg-type]
    SizedDealer(*data, num_prompts=2, mode="independent", **arguments)  # type: ignore[arg-type]
