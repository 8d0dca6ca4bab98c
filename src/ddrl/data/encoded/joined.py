"""Latents of two stores, one after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from ddrl.records import LatentRows


class JoinedLatents:
    """Rows of one store after those of another, as :class:`~ddrl.records.LatentRows`.

    Args:
        first: rows 0 to len(first) - 1.
        second: the rows after them, of the same shape.
    """

    def __init__(self, first: LatentRows, second: LatentRows) -> None:
        self._first, self._second = first, second

    @property
    def shape(self) -> torch.Size:
        """(N, ...)."""
        return torch.Size((len(self), *self._first.shape[1:]))

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Read rows, float32, on the CPU."""
        rows = torch.arange(len(self))[index if isinstance(index, slice) else index.cpu()]
        is_first = rows < len(self._first)
        latents = torch.empty((len(rows), *self.shape[1:]))
        if bool(is_first.any()):
            latents[is_first] = self._first[rows[is_first]].cpu()
        if not bool(is_first.all()):
            latents[~is_first] = self._second[rows[~is_first] - len(self._first)].cpu()
        return latents
