"""The dealer: every prompt and every data row in its turn, as a function of the step."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddrl.data.groups import AnchorMode, Dealer
from ddrl.errors import DataError

SIZES = settings(deadline=None, max_examples=40)


def dealer(
    caption_id: list[int],
    *,
    num_prompts: int,
    prompts_per_step: int = 3,
    anchors_per_group: int = 2,
    mode: AnchorMode = "paired",
    seed: int = 0,
) -> Dealer:
    return Dealer(
        torch.tensor(caption_id),
        num_prompts=num_prompts,
        seed=seed,
        prompts_per_step=prompts_per_step,
        anchors_per_group=anchors_per_group,
        mode=mode,
    )


@SIZES
@given(num_prompts=st.integers(1, 7), per_step=st.integers(1, 9), seed=st.integers(0, 5))
def test_every_prompt_once_per_epoch(num_prompts: int, per_step: int, seed: int) -> None:
    one = dealer(
        list(range(num_prompts)), num_prompts=num_prompts, prompts_per_step=per_step, seed=seed
    )
    dealt = [prompt for step in range(30) for prompt in one.deal(step).prompt_id.tolist()]
    assert len(dealt) == 30 * per_step
    for start in range(0, len(dealt) - num_prompts + 1, num_prompts):
        assert sorted(dealt[start : start + num_prompts]) == list(range(num_prompts))


@SIZES
@given(
    pool_sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    per_step=st.integers(1, 5),
    per_group=st.integers(0, 9),
)
def test_anchors_have_the_groups_caption_and_go_round(
    pool_sizes: list[int], per_step: int, per_group: int
) -> None:
    captions = [i for i, size in enumerate(pool_sizes) for _ in range(size)]
    one = dealer(
        captions,
        num_prompts=len(pool_sizes),
        prompts_per_step=per_step,
        anchors_per_group=per_group,
    )
    dealt: dict[int, list[int]] = {i: [] for i in range(len(pool_sizes))}
    for step in range(12):
        hand = one.deal(step)
        assert hand.anchor_row.shape == (per_step * per_group,)
        groups = hand.anchor_row.reshape(per_step, per_group)
        for prompt, rows in zip(hand.prompt_id.tolist(), groups.tolist(), strict=True):
            assert all(captions[row] == prompt for row in rows)
            dealt[prompt] += rows
    for prompt, rows in dealt.items():
        size = pool_sizes[prompt]
        for start in range(0, len(rows) - size + 1, size):
            assert len(set(rows[start : start + size])) == size


@SIZES
@given(num_rows=st.integers(1, 20), per_step=st.integers(1, 4), per_group=st.integers(1, 7))
def test_independent_rows_go_round_the_whole_pool(
    num_rows: int, per_step: int, per_group: int
) -> None:
    one = dealer(
        [0] * num_rows,
        num_prompts=3,
        prompts_per_step=per_step,
        anchors_per_group=per_group,
        mode="independent",
    )
    rows = [row for step in range(15) for row in one.deal(step).anchor_row.tolist()]
    assert len(rows) == 15 * per_step * per_group
    for start in range(0, len(rows) - num_rows + 1, num_rows):
        assert len(set(rows[start : start + num_rows])) == num_rows


@pytest.mark.parametrize("mode", ["paired", "independent"])
def test_a_hand_is_a_function_of_the_step(mode: AnchorMode) -> None:
    captions = [i % 4 for i in range(30)]
    fresh, used = (dealer(captions, num_prompts=4, mode=mode) for _ in range(2))
    for step in (0, 1, 2, 3, 4, 9, 2):
        used.deal(step)
    for step in (5, 0, 17):
        assert torch.equal(fresh.deal(step).prompt_id, used.deal(step).prompt_id)
        assert torch.equal(fresh.deal(step).anchor_row, used.deal(step).anchor_row)


def test_the_seed_and_the_epoch_shuffle() -> None:
    captions = [i % 8 for i in range(80)]
    orders = Counter(
        tuple(
            dealer(captions, num_prompts=8, prompts_per_step=8, seed=s).deal(e).prompt_id.tolist()
        )
        for s in range(3)
        for e in range(3)
    )
    assert len(orders) == 9


def test_independent_anchors_do_not_follow_the_prompts() -> None:
    captions = [i % 4 for i in range(400)]
    one = dealer(
        captions, num_prompts=4, prompts_per_step=4, anchors_per_group=25, mode="independent"
    )
    hand = one.deal(0)
    matching = sum(
        captions[row] == prompt
        for prompt, rows in zip(
            hand.prompt_id.tolist(), hand.anchor_row.reshape(4, 25).tolist(), strict=True
        )
        for row in rows
    )
    assert 5 < matching < 50  # 25 by chance, 100 if paired


def test_a_prompt_without_data_is_refused_where_it_needs_some() -> None:
    with pytest.raises(DataError, match=r"2 of 4 prompts have no data, the first is number 1"):
        dealer([0, 2, 0], num_prompts=4)
    with pytest.raises(DataError) as caught:
        dealer([0, 2, 0], num_prompts=4)
    assert "independent" in caught.value.hint
    assert len(dealer([0, 2, 0], num_prompts=4, anchors_per_group=0).deal(0).anchor_row) == 0
    assert len(dealer([0, 2, 0], num_prompts=4, mode="independent").deal(0).anchor_row) == 6


@pytest.mark.parametrize("mode", ["paired", "independent"])
def test_no_data_at_all_is_refused(mode: AnchorMode) -> None:
    with pytest.raises(DataError):
        dealer([], num_prompts=2, mode=mode)
