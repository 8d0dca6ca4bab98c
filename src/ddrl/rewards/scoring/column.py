"""What one reward made of a batch, and in words what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.records import Prompts, Status
from ddrl.rewards.base import SampleError


@dataclass(frozen=True)
class Column:
    """One reward's values, statuses, and in words what went wrong (or nothing).

    Attributes:
        value: float32, shape (B,); NaN where the status is not OK.
        status: a :class:`~ddrl.records.Status` each, shape (B,).
        rows: places of the samples in the batch.
        cause: what went wrong, without a full stop; empty = nothing.
        hint: what the user can do about it.
        num_cached: how many of the values are from the cache.
    """

    value: Tensor
    status: Tensor
    rows: Sequence[int]
    cause: str = ""
    hint: str = ""
    num_cached: int = 0

    @classmethod
    def known(cls, value: Tensor, rows: Sequence[int]) -> Column:
        """Take values from the cache."""
        ok = torch.full((len(rows),), int(Status.OK))
        return cls(value.float(), ok, rows, num_cached=len(rows))

    @classmethod
    def failure(cls, rows: Sequence[int], cause: str, hint: str, retries: int = 0) -> Column:
        """Say that there is no value at all, after some retries."""
        status = torch.full((len(rows),), int(Status.ERROR))
        times = f", at attempt {retries + 1}" if retries else ""
        return cls(torch.full((len(rows),), torch.nan), status, rows, cause + times, hint)

    @classmethod
    def late(
        cls, name: str, prompts: Prompts, rows: Sequence[int], timeout: float, *, table: str
    ) -> Column:
        """Say that the samples at ``rows`` of the batch of these prompts have no value in time."""
        size, first = len(rows), rows[0]
        status = torch.full((size,), int(Status.TIMEOUT))
        which = f"{size} samples"
        if size < len(prompts):
            sample = f"sample {first} ({prompts.text[first]!r})"
            which = f"{size} of {len(prompts)} samples, from {sample} on,"
        cause = f"reward {name!r} gave no answer for {which} in {timeout:g} s"
        hint = f"a batch of {name!r} that may take longer needs a larger timeout in its {table}"
        return cls(torch.full((size,), torch.nan), status, rows, cause, hint)

    @classmethod
    def merge(cls, parts: Sequence[Column]) -> Column:
        """Merge columns, samples by their place; of many causes only the first two are told."""
        if not parts:
            return cls(torch.zeros(0), torch.zeros(0, dtype=torch.int64), ())
        causes = [part.cause for part in parts if part.cause]
        if len(causes) > 2:
            causes[2:] = [f"and {len(causes) - 2} more of its calls"]
        rows = [row for part in parts for row in part.rows]
        order = sorted(range(len(rows)), key=rows.__getitem__)
        return cls(
            torch.cat([part.value for part in parts])[order],
            torch.cat([part.status for part in parts])[order],
            [rows[place] for place in order],
            "; ".join(causes),
            next((part.hint for part in parts if part.hint), ""),
            sum(part.num_cached for part in parts),
        )

    @classmethod
    def of(
        cls,
        name: str,
        value: Tensor,
        prompts: Prompts,
        *,
        rows: Sequence[int],
        errors: SampleError | None = None,
    ) -> Column:
        """Give each of the values, shape (B,), its status.

        Args:
            name: of the reward.
            value: what it returned, on the CPU.
            prompts: the prompt of every sample.
            rows: places of the samples in the batch.
            errors: which samples it says have no reward, if it said so.
        """
        size, causes = len(value), [] if errors is None else sorted(errors.causes)
        status = torch.where(value.isfinite(), int(Status.OK), int(Status.NOT_FINITE))
        status[causes] = int(Status.ERROR)
        told = []
        if errors is not None:
            first = causes[0]
            told.append(
                f"reward {name!r} failed on {len(causes)} of {size} samples, the first is sample "
                f"{rows[first]} ({prompts.text[first]!r}): {errors.causes[first]}"
            )
        if (odd := (status == Status.NOT_FINITE).nonzero()).numel():
            first = int(odd[0])
            told.append(
                f"reward {name!r} returned {float(value[first])} for {len(odd)} of {size} "
                f"samples, the first is sample {rows[first]} ({prompts.text[first]!r})"
            )
        hint = "" if errors is None else errors.hint
        kept = value.where(status == Status.OK, torch.nan)
        return cls(kept, status, rows, "; ".join(told), hint)
