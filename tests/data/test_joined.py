"""Latents of two stores read as one."""

from __future__ import annotations

import torch
from torch import Tensor

from ddrl.data.encoded.joined import JoinedLatents


class Counted:
    """Latents that note which rows were read."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.read: list[int] = []

    @property
    def shape(self) -> torch.Size:
        return self.rows.shape

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        self.read += torch.arange(len(self))[index].tolist()
        return self.rows[index]


def test_rows_come_from_where_they_are() -> None:
    rows = torch.arange(42.0).reshape(7, 2, 3)
    joined = JoinedLatents(rows[:4], rows[4:])
    assert len(joined) == 7
    assert joined.shape == rows.shape
    for index in ([0, 6, 3, 4, 4], [5, 6], [1, 0], []):
        chosen = torch.tensor(index, dtype=torch.int64)
        assert torch.equal(joined[chosen], rows[chosen])
    for part in (slice(None), slice(2, 6), slice(5, 7), slice(0, 2)):
        assert torch.equal(joined[part], rows[part])


def test_nothing_is_read_that_was_not_asked_for() -> None:
    first, second = Counted(torch.zeros(4, 2)), Counted(torch.ones(3, 2))
    joined = JoinedLatents(first, second)
    assert joined.shape == (7, 2)
    joined[torch.tensor([1, 2])]
    assert (first.read, second.read) == ([1, 2], [])
    joined[torch.tensor([6])]
    assert (first.read, second.read) == ([1, 2], [2])
