"""The dealer: every prompt and every data row in its turn, as a function of the step."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddrl.data.groups import AnchorMode, Dealer, num_synthetic
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
    num_real: int = 0,
    share: float = 0.5,
) -> Dealer:
    return Dealer(
        torch.tensor(caption_id),
        num_prompts=num_prompts,
        seed=seed,
        prompts_per_step=prompts_per_step,
        anchors_per_group=anchors_per_group,
        mode=mode,
        num_real=num_real,
        share=share,
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


@SIZES
@given(
    real=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    made=st.integers(1, 5),
    per_group=st.integers(2, 9),
    share=st.floats(0.01, 0.99),
)
def test_mixed_groups_have_their_share_of_each_kind(
    real: list[int], made: int, per_group: int, share: float
) -> None:
    num_prompts, num_real = len(real), sum(real)
    captions = [i for i, size in enumerate(real) for _ in range(size)]
    captions += [i for i in range(num_prompts) for _ in range(made)]
    one = dealer(
        captions,
        num_prompts=num_prompts,
        anchors_per_group=per_group,
        mode="mixed",
        num_real=num_real,
        share=share,
    )
    wanted = num_synthetic(per_group, share)
    assert 1 <= wanted <= per_group - 1
    assert abs(wanted - share * per_group) <= 0.5 or wanted in (1, per_group - 1)
    dealt: list[list[int]] = [[] for _ in range(num_prompts)]
    for step in range(10):
        hand = one.deal(step)
        groups = hand.anchor_row.reshape(3, per_group).tolist()
        for prompt, rows in zip(hand.prompt_id.tolist(), groups, strict=True):
            assert all(captions[row] == prompt for row in rows)
            synthetic = [row for row in rows if row >= num_real]
            assert len(synthetic) == wanted
            dealt[prompt] += synthetic
    for prompt, rows in enumerate(dealt):
        times = Counter(rows)
        own = [row for row in range(num_real, len(captions)) if captions[row] == prompt]
        if rows:  # all of a prompt's samples go round
            assert max(times[row] for row in own) - min(times[row] for row in own) <= 1


def test_a_mixed_group_is_shuffled() -> None:
    """An update takes every n-th row of a group: none may get data of one kind alone."""
    captions = [0] * 40 + [0] * 40
    one = dealer(
        captions, num_prompts=1, prompts_per_step=1, anchors_per_group=8, mode="mixed", num_real=40
    )
    kinds = torch.stack([one.deal(step).anchor_row >= 40 for step in range(200)])
    assert bool((kinds.sum(1) == 4).all())
    share = kinds.double().mean(0)
    assert bool(((share > 0.35) & (share < 0.65)).all())  # 0.5 +- 0.035 at each place


def test_real_data_is_dealt_as_without_synthetic_beside_it() -> None:
    captions = [i % 4 for i in range(40)]
    paired = dealer(captions, num_prompts=4, anchors_per_group=2)
    mixed = dealer(
        [*captions, 0, 1, 2, 3], num_prompts=4, anchors_per_group=4, mode="mixed", num_real=40
    )
    for step in range(6):
        rows = mixed.deal(step).anchor_row.reshape(3, 4)
        assert torch.equal(mixed.deal(step).prompt_id, paired.deal(step).prompt_id)
        real = [sorted(row for row in group if row < 40) for group in rows.tolist()]
        assert real == paired.deal(step).anchor_row.reshape(3, 2).sort(1).values.tolist()


def test_synthetic_rows_are_dealt_as_paired_ones_are() -> None:
    captions = [i % 4 for i in range(30)]
    paired, synthetic = (
        dealer(captions, num_prompts=4, mode=mode) for mode in ("paired", "synthetic")
    )
    for step in range(6):
        assert torch.equal(paired.deal(step).anchor_row, synthetic.deal(step).anchor_row)


@pytest.mark.parametrize("mode", ["paired", "independent", "mixed"])
def test_a_hand_is_a_function_of_the_step(mode: AnchorMode) -> None:
    captions = [i % 4 for i in range(30)]
    fresh, used = (dealer(captions, num_prompts=4, mode=mode, num_real=15) for _ in range(2))
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


@pytest.mark.parametrize("num_real", [0, 4])
def test_a_mixed_prompt_needs_data_of_both_kinds(num_real: int) -> None:
    with pytest.raises(DataError, match=r"2 of 2 prompts have no data, .* but the anchor is mixed"):
        dealer([0, 1, 0, 1], num_prompts=2, mode="mixed", num_real=num_real)
    none = dealer([], num_prompts=2, mode="mixed", anchors_per_group=0)
    assert len(none.deal(3).anchor_row) == 0


@pytest.mark.parametrize("mode", ["paired", "independent", "synthetic"])
def test_no_data_at_all_is_refused(mode: AnchorMode) -> None:
    with pytest.raises(DataError):
        dealer([], num_prompts=2, mode=mode)


def test_data_are_dealt_in_another_order_for_another_seed() -> None:
    """Of one prompt, so that it is not the order of prompts that differs."""
    rows = [
        dealer([0] * 12, num_prompts=1, prompts_per_step=1, anchors_per_group=12, seed=seed)
        .deal(0)
        .anchor_row.tolist()
        for seed in (0, 0, 1)
    ]
    assert rows[0] == rows[1] != rows[2]
    assert sorted(rows[2]) == list(range(12))
