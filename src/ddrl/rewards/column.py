"""What one reward made of a batch, and in words what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.records import Prompts, Status
from ddrl.rewards.base import SampleError

__all__ = ["Column"]


@dataclass(frozen=True)
class Column:
    """One reward's values, statuses, and in words what went wrong (or nothing).

    Attributes:
        value: float32, shape (B,); NaN where the status is not OK.
        status: a :class:`~ddrl.records.Status` each, shape (B,).
        cause: what went wrong, without a full stop; empty = nothing.
        hint: what the user can do about it.
    """

    value: Tensor
    status: Tensor
    cause: str
    hint: str = ""

    @classmethod
    def failure(cls, size: int, cause: str, hint: str, retries: int) -> Column:
        """No value at all, after some retries."""
        status = torch.full((size,), int(Status.ERROR))
        times = f", at attempt {retries + 1}" if retries else ""
        return cls(torch.full((size,), torch.nan), status, cause + times, hint)

    @classmethod
    def late(cls, name: str, prompts: Prompts, start: int, timeout: float) -> Column:
        """No value in time, for the samples from ``start`` on."""
        size = len(prompts) - start
        status = torch.full((size,), int(Status.TIMEOUT))
        which = f"{size} samples"
        if start:
            first = f"sample {start} ({prompts.text[start]!r})"
            which = f"{size} of {len(prompts)} samples, from {first} on,"
        cause = f"reward {name!r} gave no answer for {which} in {timeout:g} s"
        hint = f"a batch of {name!r} that may take longer needs a larger timeout in its [[reward]]"
        return cls(torch.full((size,), torch.nan), status, cause, hint)

    @classmethod
    def join(cls, parts: Sequence[Column]) -> Column:
        """One after another; of many causes the first two are told."""
        causes = [part.cause for part in parts if part.cause]
        if len(causes) > 2:
            causes[2:] = [f"and {len(causes) - 2} more of its calls"]
        return cls(
            torch.cat([part.value for part in parts]),
            torch.cat([part.status for part in parts]),
            "; ".join(causes),
            next((part.hint for part in parts if part.hint), ""),
        )

    @classmethod
    def of(
        cls,
        name: str,
        value: Tensor,
        prompts: Prompts,
        *,
        start: int = 0,
        errors: SampleError | None = None,
    ) -> Column:
        """Values of shape (B,) with the status of each.

        Args:
            name: of the reward.
            value: what it returned, on the CPU.
            prompts: the prompt of every sample.
            start: number of the first sample.
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
                f"{start + first} ({prompts.text[first]!r}): {errors.causes[first]}"
            )
        if (odd := (status == Status.NOT_FINITE).nonzero()).numel():
            first = int(odd[0])
            told.append(
                f"reward {name!r} returned {float(value[first])} for {len(odd)} of {size} "
                f"samples, the first is sample {start + first} ({prompts.text[first]!r})"
            )
        hint = "" if errors is None else errors.hint
        return cls(value.where(status == Status.OK, torch.nan), status, "; ".join(told), hint)
