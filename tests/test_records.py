"""The records between stages: selecting keeps rows together, and shapes are checked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jaxtyping
import pytest
import torch
from torch import Tensor

from ddrl.records import (
    Advantages,
    Anchor,
    Condition,
    Prompts,
    RepeatedRows,
    Scores,
    Status,
    Trajectory,
)


@dataclass(frozen=True)
class TextCondition(Condition):
    """As a model family would write it: a tensor, and one that may be absent."""

    embedding: Tensor
    mask: Tensor | None = None


def condition(rows: int, *, masked: bool = True) -> TextCondition:
    embedding = torch.arange(rows * 6.0).reshape(rows, 2, 3)
    return TextCondition(embedding, torch.arange(rows * 2).reshape(rows, 2) if masked else None)


def trajectory(*, with_kl: bool = True) -> Trajectory:
    """4 samples of 2 groups through 3 steps; row n holds the number n everywhere."""
    row = torch.arange(4.0)
    return Trajectory(
        latents=row[:, None, None].expand(4, 4, 5) + torch.arange(4.0)[None, :, None] / 10,
        times=torch.tensor([1.0, 0.7, 0.3, 0.0]),
        log_prob=row[:, None].expand(4, 3),
        group=torch.tensor([0, 0, 1, 1]),
        sample_id=torch.tensor([10, 11, 12, 13]),
        condition=condition(2),
        reference_kl=row[:, None].expand(4, 3) if with_kl else None,
    )


def test_prompts_select_repeats_and_keeps_identity() -> None:
    prompts = Prompts(torch.tensor([3, 7]), ("three", "seven"), ({"digit": 3}, {}))
    assert len(prompts) == 2
    chosen = prompts.select([1, 0, 1])
    assert chosen.prompt_id.tolist() == [7, 3, 7]
    assert chosen.text == ("seven", "three", "seven")
    assert chosen.metadata == ({}, {"digit": 3}, {})


def test_condition_indexing_moves_every_field() -> None:
    whole = condition(4)
    assert len(whole) == 4
    for index in (torch.tensor([2, 0, 2]), slice(1, 3)):
        part = whole[index]
        assert isinstance(part, TextCondition)
        assert torch.equal(part.embedding, whole.embedding[index])
        assert part.mask is not None
        assert whole.mask is not None
        assert torch.equal(part.mask, whole.mask[index])
    moved = whole.to("cpu")
    assert torch.equal(moved.embedding, whole.embedding)


def test_condition_without_a_field() -> None:
    part = condition(4, masked=False)[torch.tensor([1])]
    assert part.mask is None
    assert len(part) == 1
    assert len(Condition()) == 0


def test_condition_where_puts_the_empty_text_in() -> None:
    whole, empty = condition(3), TextCondition(torch.full((1, 2, 3), -1.0), torch.full((1, 2), -1))
    mixed = whole.where(torch.tensor([False, True, False]), empty)
    assert mixed.mask is not None
    assert whole.mask is not None
    assert (mixed.embedding[1] == -1).all()
    assert (mixed.mask[1] == -1).all()
    assert torch.equal(mixed.embedding[[0, 2]], whole.embedding[[0, 2]])
    assert torch.equal(mixed.mask[[0, 2]], whole.mask[[0, 2]])
    assert (whole.embedding >= 0).all()  # the original is left alone


def test_condition_where_leaves_absent_fields_absent() -> None:
    whole, empty = condition(2, masked=False), TextCondition(torch.full((1, 2, 3), -1.0))
    mixed = whole.where(torch.tensor([True, False]), empty)
    assert mixed.mask is None
    assert (mixed.embedding[0] == -1).all()


def test_condition_where_keeps_fields_that_the_other_lacks() -> None:
    whole, empty = condition(2), TextCondition(torch.full((1, 2, 3), -1.0))
    mixed = whole.where(torch.tensor([True, False]), empty)
    assert mixed.mask is whole.mask
    assert (mixed.embedding[0] == -1).all()


def test_an_anchor_that_repeats_conditions_copies_none_of_them() -> None:
    whole = condition(2)
    rows = RepeatedRows(whole, torch.tensor([1, 0, 1, 1]))
    anchor = Anchor(torch.arange(12.0).reshape(4, 3), rows, torch.arange(4))
    for index in (torch.tensor([3, 1]), slice(2, 4)):
        part = anchor.select(index)
        assert isinstance(part.condition, RepeatedRows)
        assert part.condition.condition is whole
        chosen = part.condition[:]
        assert isinstance(chosen, TextCondition)
        assert torch.equal(chosen.embedding, whole.embedding[rows.row[index]])


def test_anchor_select() -> None:
    anchor = Anchor(torch.arange(12.0).reshape(4, 3), condition(4), torch.tensor([5, 6, 7, 8]))
    assert len(anchor) == 4
    for index in (torch.tensor([3, 1]), slice(2, 4)):
        part = anchor.select(index)
        assert torch.equal(part.x0, anchor.x0[index])
        assert torch.equal(part.sample_id, anchor.sample_id[index])
        assert len(part.condition) == 2


def test_trajectory_select_keeps_rows_together_and_groups_as_numbered() -> None:
    whole = trajectory()
    part = whole.select(torch.tensor([3, 1]))
    assert len(part) == 2
    assert part.sample_id.tolist() == [13, 11]
    assert part.group.tolist() == [1, 0]
    assert len(part.condition) == 2  # one row per group, not per sample
    assert torch.equal(part.times, whole.times)
    assert part.log_prob[:, 0].tolist() == [3, 1]
    assert part.reference_kl is not None
    assert part.reference_kl[:, 0].tolist() == [3, 1]
    assert torch.equal(part.latents, whole.latents[[3, 1]])
    assert trajectory(with_kl=False).select(slice(0, 2)).reference_kl is None


def test_trajectory_final_is_the_last_latent() -> None:
    whole = trajectory()
    assert whole.final.shape == (4, 5)
    torch.testing.assert_close(whole.final[:, 0], torch.tensor([0.3, 1.3, 2.3, 3.3]))


def test_trajectory_may_be_stored_in_half_precision() -> None:
    whole = trajectory()
    half = dataclasses.replace(whole, latents=whole.latents.bfloat16())
    assert half.select(slice(0, 1)).latents.dtype == torch.bfloat16


def test_advantages_select() -> None:
    whole = Advantages(
        value=torch.tensor([1.0, 2.0, 0.0]),
        keep=torch.tensor([True, True, False]),
        num_flat_groups=1,
        scale=torch.tensor([0.5, 2.0, 4.0]),
        clipped=torch.tensor([False, True, False]),
    )
    part = whole.select(torch.tensor([2, 1]))
    assert part.value.tolist() == [0, 2]
    assert part.keep.tolist() == [False, True]
    assert part.clipped.tolist() == [False, True]
    assert part.scale.tolist() == [4, 2]
    assert part.num_flat_groups == 1


def test_status_fits_a_tensor() -> None:
    status = torch.tensor([Status.OK, Status.ERROR, Status.NOT_FINITE])
    assert status.tolist() == [0, 1, 2]
    assert [Status(v).name for v in status.tolist()] == ["OK", "ERROR", "NOT_FINITE"]


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        trajectory().group = torch.zeros(4, dtype=torch.int64)  # type: ignore[misc]


def test_advantages_refuse_a_column() -> None:
    """A (B, 1) advantage beside a (B,) loss would broadcast to (B, B)."""
    keep = torch.ones(3, dtype=torch.bool)
    ones = torch.ones(3)
    for value, kept, scale, clipped in (
        (torch.zeros(3, 1), keep, ones, keep),
        (torch.zeros(3), keep[:, None], ones, keep),
        (torch.zeros(3), keep, ones[:, None], keep),
        (torch.zeros(3), keep, ones, keep[:2]),
        (torch.zeros(3), keep.float(), ones, keep),
    ):
        with pytest.raises(jaxtyping.TypeCheckError):
            Advantages(value, kept, 0, scale=scale, clipped=clipped)


def test_trajectory_refuses_shapes_that_do_not_belong_together() -> None:
    whole = trajectory()
    wrong: list[dict[str, Tensor]] = [
        {"group": whole.group[:3]},
        {"group": whole.group[:, None]},
        {"group": whole.group.float()},
        {"times": whole.times[:3]},
        {"log_prob": whole.log_prob[:3]},
        {"reference_kl": whole.log_prob[:, :2]},
        {"sample_id": whole.sample_id.float()},
    ]
    for change in wrong:
        with pytest.raises(jaxtyping.TypeCheckError):
            dataclasses.replace(whole, **change)  # type: ignore[arg-type]


def test_scores_refuse_rewards_of_other_samples() -> None:
    value, status = torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.int64)
    valid = torch.ones(3, dtype=torch.bool)
    Scores(value, status, ("a", "b"), torch.zeros(3), valid, torch.zeros(3))
    with pytest.raises(jaxtyping.TypeCheckError):
        Scores(value, status, ("a", "b"), torch.zeros(4), valid, torch.zeros(3))
    with pytest.raises(jaxtyping.TypeCheckError):
        Scores(value, status[:, :1], ("a", "b"), torch.zeros(3), valid, torch.zeros(3))
    with pytest.raises(jaxtyping.TypeCheckError):
        Scores(value, status, ("a", "b"), torch.zeros(3, 1), valid, torch.zeros(3))
