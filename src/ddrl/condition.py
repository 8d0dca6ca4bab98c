"""What a model is conditioned on, by rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

# A TypeVar rather than typing.Self, which the run-time type checker of the tests can't resolve.
ConditionT = TypeVar("ConditionT", bound="Condition")


@dataclass(frozen=True)
class Condition:
    """What a model is conditioned on. Families subclass it with their own tensors.

    Every field of a subclass is a tensor whose first dimension is the batch, or None, so that
    indexing, repeating and moving are written once, here.
    """

    on_cpu: ClassVar[frozenset[str]] = frozenset()
    """Fields that stay on the CPU: what is asked before each pass, which must not wait for it."""

    def _map(
        self: ConditionT,
        function: Callable[[Tensor], Tensor],
        on_cpu: Callable[[Tensor], Tensor] | None = None,
    ) -> ConditionT:
        values = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            chosen = on_cpu if on_cpu is not None and field.name in self.on_cpu else function
            values[field.name] = value if value is None else chosen(value)
        return type(self)(**values)

    def __len__(self) -> int:
        tensors = (getattr(self, f.name) for f in dataclasses.fields(self))
        return next((len(value) for value in tensors if value is not None), 0)

    def __getitem__(self: ConditionT, index: Tensor | slice) -> ConditionT:
        """Return rows. Numbers of rows on the device are waited for, if a field is on the CPU."""
        if isinstance(index, slice):
            return self._map(lambda value: value[index])
        return self._map(lambda value: value[index], lambda value: value[index.cpu()])

    def take(self: ConditionT, index: Tensor, on_cpu: Callable[[], Tensor]) -> ConditionT:
        """Return rows whose numbers the CPU knows, too, and so without waiting for the device.

        Args:
            index: numbers of the rows, where the condition is.
            on_cpu: returns the same numbers on the CPU; called if a field is there.
        """
        return self._map(lambda value: value[index], lambda value: value[on_cpu()])

    def repeat(self: ConditionT, times: int) -> ConditionT:
        """Return all rows so many times, one after the other."""
        return self._map(lambda value: value.repeat(times, *[1] * (value.ndim - 1)))

    def to(self: ConditionT, device: torch.device | str) -> ConditionT:
        """Return the condition on another device, but for what stays on the CPU."""
        return self._map(lambda value: value.to(device), lambda value: value)

    def where(self: ConditionT, mask: Tensor, other: ConditionT) -> ConditionT:
        """Return ``other`` where ``mask`` (shape (batch,), bool) is true, else this condition.

        ``other`` has one row, which is broadcast (the empty text, usually). A field that it lacks
        stays this condition's (the first frame, which guidance leaves alone). A mask on the CPU is
        waited for nowhere.
        """
        values = {}
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine is not None and theirs is not None:
                rows = beside(mask, mine).reshape(-1, *[1] * (mine.ndim - 1))
                values[field.name] = torch.where(rows, theirs, mine)
        return dataclasses.replace(self, **values)


def beside(mask: Tensor, like: Tensor) -> Tensor:
    """A mask where another tensor is; from the CPU to a GPU without waiting."""
    if mask.device == like.device:
        return mask
    if like.is_cuda:
        return mask.pin_memory().to(like.device, non_blocking=True)
    return mask.to(like.device)
