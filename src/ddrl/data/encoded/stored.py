"""Latents and conditions that stay in the cache, and are read row by row when they are needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ddrl.data.encoded.cache import EncodedCache
from ddrl.records import Condition


class StoredLatents:
    """Latents in a cache as :class:`~ddrl.records.LatentRows`.

    Of data of several sizes, rows that are read together have to be of one.

    Args:
        cache: where they are.
        keys: of the rows, for :meth:`~ddrl.data.encoded.cache.EncodedCache.media`; at least one.

    Raises:
        DataError: the first can't be read.
    """

    def __init__(self, cache: EncodedCache, keys: Sequence[str]) -> None:
        self._cache, self._keys = cache, tuple(keys)
        self._shape = torch.Size((len(self._keys), *self._row(0).shape))

    @property
    def shape(self) -> torch.Size:
        """(N, ...), of the first row."""
        return self._shape

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Read rows, each once however often it is asked for; float32, on the CPU.

        Raises:
            DataError: one can't be read any more.
        """
        rows = _rows(index, len(self))
        read = {row: self._row(row).float() for row in dict.fromkeys(rows)}
        return torch.stack([read[row] for row in rows])

    def _row(self, row: int) -> Tensor:
        return self._cache.media(self._keys[row])["latents"]


class StoredConditions:
    """Conditions in a cache, as :class:`~ddrl.records.ConditionRows`.

    A row is a text's embeddings, and what comes from the frames that are given, if any. Rows of
    different lengths are padded to the longest of those that are read together.

    Args:
        kind: the family's condition.
        cache: where they are.
        text_keys: per row, for :meth:`~ddrl.data.encoded.cache.EncodedCache.text`.
        given_keys: per row, for :meth:`~ddrl.data.encoded.cache.EncodedCache.given`; None where no
            frames are given.
        device: where rows go.
    """

    def __init__(
        self,
        kind: type[Condition],
        cache: EncodedCache,
        *,
        text_keys: Sequence[str],
        given_keys: Sequence[str] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._kind, self._cache, self._device = kind, cache, device
        self._text_keys = tuple(text_keys)
        self._given_keys = None if given_keys is None else tuple(given_keys)

    def __len__(self) -> int:
        return len(self._text_keys)

    def __getitem__(self, index: Tensor | slice) -> Condition:
        """Read rows, each once however often it is asked for, onto the device.

        Raises:
            DataError: one can't be read any more.
        """
        rows = _rows(index, len(self))
        place = {row: i for i, row in enumerate(dict.fromkeys(rows))}
        read = collate(self._kind, [self._row(row) for row in place]).to(self._device)
        if len(place) == len(rows):
            return read
        return read[torch.tensor([place[row] for row in rows], device=self._device)]

    def _row(self, row: int) -> dict[str, Tensor]:
        tensors = self._cache.text(self._text_keys[row])
        if self._given_keys is not None:
            tensors |= self._cache.given(self._given_keys[row])
        return tensors


def _rows(index: Tensor | slice, length: int) -> list[int]:
    rows: list[int] = torch.arange(length)[
        index if isinstance(index, slice) else index.cpu()
    ].tolist()
    return rows


def collate(kind: type[Condition], rows: Sequence[Mapping[str, Tensor]]) -> Condition:
    """Rows to one condition; those that are shorter are padded with zeros.

    Args:
        kind: the family's condition.
        rows: its fields by name, without a batch dimension; a field that no row has is None.
    """
    values: dict[str, Tensor | None] = {}
    for field in dataclasses.fields(kind):
        found = [row[field.name] for row in rows if field.name in row]
        values[field.name] = _stack(found) if found else None
    return kind(**values)


def _stack(found: Sequence[Tensor]) -> Tensor:
    if found[0].ndim == 0:
        return torch.stack(list(found))
    longest = max(len(value) for value in found)
    return torch.stack(
        [
            torch.cat([v, v.new_zeros((longest - len(v), *v.shape[1:]))]) if len(v) < longest else v
            for v in found
        ]
    )
