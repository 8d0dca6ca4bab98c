"""Conditions by rows: fields on the CPU stay there, and are indexed without the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ddrl.condition import Condition
from ddrl.records import RepeatedRows


@dataclass(frozen=True)
class Texts(Condition):
    """Tokens, and how many of them count."""

    on_cpu: ClassVar[frozenset[str]] = frozenset({"length"})
    embeds: Tensor
    length: Tensor


def texts() -> Texts:
    return Texts(torch.arange(12.0).reshape(3, 4), torch.tensor([1, 2, 3]))


def test_what_is_on_the_cpu_stays_there() -> None:
    moved = texts().to("meta")
    assert (moved.embeds.device.type, moved.length.device.type) == ("meta", "cpu")
    for rows in (moved[torch.tensor([2, 0, 2])], moved[1:], moved.repeat(2)):
        assert (rows.embeds.device.type, rows.length.device.type) == ("meta", "cpu")
    chosen = moved.take(
        torch.empty(2, dtype=torch.int64, device="meta"), lambda: torch.tensor([2, 0])
    )
    assert chosen.length.tolist() == [3, 1]
    other = moved[:1].where(torch.tensor([True]), texts()[2:].to("meta"))
    assert (other.embeds.device.type, other.length.tolist()) == ("meta", [3])


def test_repeated_rows_know_their_numbers() -> None:
    """The device's numbers of rows are asked for once, whatever passes follow."""
    rows = RepeatedRows(texts(), torch.tensor([2, 2, 0, 1]))
    part = rows[1:3]
    assert isinstance(part, Texts)
    assert part.length.tolist() == [3, 1]
    assert torch.equal(part.embeds, texts().embeds[[2, 0]])


def test_repeating_is_one_after_the_other() -> None:
    condition = texts().repeat(2)
    index = torch.arange(6) % 3
    assert torch.equal(condition.embeds, texts().embeds[index])
    assert torch.equal(condition.length, texts().length[index])
