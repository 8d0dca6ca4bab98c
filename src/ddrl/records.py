"""What travels between the stages of an iteration.

    prompts -> rollout (Trajectory) -> rewards (Scores) -> Advantages -> update, beside the Anchor

Letters: G groups (one prompt each), B samples (members of all groups), K steps of the sampler,
M anchor samples (data), R rewards, U texts. Groups are integers 0..G-1, the position of the
prompt in the batch; identity across batches is the integer ``Prompts.prompt_id``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ddrl.condition import Condition

__all__ = [
    "Advantages",
    "Anchor",
    "Condition",
    "ConditionRows",
    "LatentRows",
    "Prompts",
    "RepeatedRows",
    "Scores",
    "Status",
    "Trajectory",
]


@dataclass(frozen=True)
class Prompts:
    """The prompts of one batch, one per group.

    Attributes:
        prompt_id: the prompt's integer identity in its data source, shape (G,).
        text: G prompts.
        metadata: per prompt, what its data source knows beyond the text (may be empty dicts).

    Example:
        ``Prompts(torch.tensor([3, 7]), ("three", "seven"), ({}, {}))``
    """

    prompt_id: Int[Tensor, "G"]
    text: tuple[str, ...]
    metadata: tuple[Mapping[str, Any], ...]

    @classmethod
    def numbered(cls, text: Sequence[str], metadata: Sequence[Mapping[str, Any]] = ()) -> Prompts:
        """Return the prompts of a source, numbered from 0; no ``metadata``: nothing of any."""
        known = tuple(metadata) or tuple({} for _ in text)
        return cls(torch.arange(len(text)), tuple(text), known)

    def __len__(self) -> int:
        return len(self.text)

    def select(self, index: Sequence[int]) -> Prompts:
        """Return the prompts at these positions, repeated where an index repeats."""
        return Prompts(
            self.prompt_id[torch.as_tensor(index, dtype=torch.int64)],
            tuple(self.text[i] for i in index),
            tuple(self.metadata[i] for i in index),
        )


class LatentRows(Protocol):
    """Clean latents by row: a tensor, or what reads rows from a cache when they are asked for.

    An index is a slice, or row numbers on the CPU.
    """

    @property
    def shape(self) -> torch.Size:
        """(N, ...), without reading them."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor | slice, /) -> Tensor: ...


class ConditionRows(Protocol):
    """Conditions by row: a :class:`Condition`, or what reads rows when they are asked for.

    An index is a slice, or row numbers on the CPU.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor | slice, /) -> Condition: ...


@dataclass(frozen=True)
class RepeatedRows:
    """Rows of a condition, some of them several times, none of which is copied until it is used.

    Attributes:
        condition: the distinct rows.
        row: which of them each is, shape (M,).
    """

    condition: Condition
    row: Int[Tensor, "M"]

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, index: Tensor | slice) -> Condition:
        if isinstance(index, slice):
            return self.condition.take(self.row[index], lambda: self._row_on_cpu[index])
        return self.condition[self.row[index]]

    @cached_property
    def _row_on_cpu(self) -> Tensor:
        """The same numbers, waited for once."""
        return self.row.cpu()

    def select(self, index: Tensor | slice) -> RepeatedRows:
        """Return the rows at ``index``, still without a copy."""
        return RepeatedRows(self.condition, self.row[index])


@dataclass(frozen=True)
class Anchor:
    """Clean data that the policy is held to: the expectation under p_data of eq. (T4).

    Attributes:
        x0: clean latents, shape (M, ...), float32.
        condition: the condition of each row, length M.
        sample_id: names the row's noise, shape (M,).
    """

    x0: Float[Tensor, "M *D"]
    condition: Condition | RepeatedRows
    sample_id: Int[Tensor, "M"]

    def __len__(self) -> int:
        return len(self.x0)

    def select(self, index: Tensor | slice) -> Anchor:
        """Return the rows at ``index``."""
        repeated = self.condition
        chosen = repeated.select if isinstance(repeated, RepeatedRows) else repeated.__getitem__
        return Anchor(self.x0[index], chosen(index), self.sample_id[index])


@dataclass(frozen=True)
class Trajectory:
    """Rollouts of B samples through K steps, in the dtype they are stored in.

    Attributes:
        latents: x at every time, shape (B, K + 1, ...); [:, 0] is noise, [:, K] the sample.
        times: shape (K + 1,), from 1 down to 0.
        log_prob: log p(x_{k+1} | x_k) of the behaviour policy, float32, shape (B, K); 0 at
            deterministic steps, which have no density. Reduced as the objective reduces it.
        group: position of the sample's prompt in the batch, shape (B,).
        sample_id: names the sample's noise, shape (B,).
        condition: one row per group, length G.
        reference_kl: KL to a reference policy at every step, eq. (T3), shape (B, K), or None.
    """

    latents: Float[Tensor, "B K1 *D"]
    times: Float[Tensor, "K1"]
    log_prob: Float[Tensor, "B K"]
    group: Int[Tensor, "B"]
    sample_id: Int[Tensor, "B"]
    condition: Condition
    reference_kl: Float[Tensor, "B K"] | None = None

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def final(self) -> Tensor:
        """The samples x0, shape (B, ...)."""
        return self.latents[:, -1]

    @cached_property
    def _group_on_cpu(self) -> Tensor:
        """The groups on the CPU, waited for once."""
        return self.group.cpu()

    def condition_of(self, rows: slice, times: int = 1) -> Condition:
        """Return the conditions of some samples, so many times; waits at most at its first call."""
        return self.condition.take(
            self.group[rows].repeat(times), lambda: self._group_on_cpu[rows].repeat(times)
        )

    def select(self, index: Tensor | slice) -> Trajectory:
        """Return the samples at ``index``; groups keep their numbers."""
        kl = self.reference_kl
        return dataclasses.replace(
            self,
            latents=self.latents[index],
            log_prob=self.log_prob[index],
            group=self.group[index],
            sample_id=self.sample_id[index],
            reference_kl=None if kl is None else kl[index],
        )


class Status(IntEnum):
    """What became of one sample at one reward. A failure is a status, never a number."""

    OK = 0
    ERROR = 1
    NOT_FINITE = 2
    TIMEOUT = 3


@dataclass(frozen=True)
class Scores:
    """The rewards of B samples.

    Attributes:
        value: raw values, shape (B, R); NaN where the status is not OK.
        status: a :class:`Status` per value, shape (B, R).
        names: R reward names.
        combined: what is trained on, shape (B,); 0 where ``valid`` is false.
        valid: whether every reward of the sample succeeded, shape (B,).
        weighted_sum: of the raw values, shape (B,); 0 where ``valid`` is false. Other than
            ``combined``, which may be relative to this batch, it compares from one batch, or
            one model, to another.
        num_cached: per reward, how many values are from its cache; None: it has none.
    """

    value: Float[Tensor, "B R"]
    status: Int[Tensor, "B R"]
    names: tuple[str, ...]
    combined: Float[Tensor, "B"]
    valid: Bool[Tensor, "B"]
    weighted_sum: Float[Tensor, "B"]
    num_cached: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class Advantages:
    """Advantages of B samples.

    Attributes:
        value: A_n, float32, shape (B,); 0 where ``keep`` is false.
        keep: whether the sample takes part in the update, shape (B,).
        num_flat_groups: groups without spread, whose advantages are all 0.
        scale: what the sample's reward was divided by, shape (B,): a standard deviation where the
            advantage is normalised, 1 where its unit is the reward's.
        clipped: which values were cut off at a limit, shape (B,).
    """

    value: Float[Tensor, "B"]
    keep: Bool[Tensor, "B"]
    num_flat_groups: int
    scale: Float[Tensor, "B"]
    clipped: Bool[Tensor, "B"]

    def select(self, index: Tensor | slice) -> Advantages:
        """Return the samples at ``index``."""
        return dataclasses.replace(
            self,
            value=self.value[index],
            keep=self.keep[index],
            scale=self.scale[index],
            clipped=self.clipped[index],
        )
