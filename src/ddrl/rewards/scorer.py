"""Runs the rewards of a batch into one :class:`~ddrl.records.Scores`.

A failure is a status, never a number: the sample (or its group) is dropped, or the run stops.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ddrl.errors import DDRLError, RewardError
from ddrl.records import Prompts, Scores, Status
from ddrl.rewards.base import Reward, SampleError

__all__ = ["FailurePolicy", "Scorer", "WeightedReward"]

FailurePolicy = Literal["drop_sample", "drop_group", "abort"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightedReward:
    """A reward, its name in logs and metrics, and its weight in the sum."""

    name: str
    reward: Reward
    weight: float = 1.0


class Scorer:
    """Scores batches with several rewards.

    Args:
        rewards: at least one; names are distinct.
        on_failure: what a failed reward costs: its sample, the sample's whole group, or the run.
        max_failed_share: above this share of failed samples in a batch the run stops anyway.
    """

    def __init__(
        self,
        rewards: Sequence[WeightedReward],
        *,
        on_failure: FailurePolicy = "abort",
        max_failed_share: float = 0.25,
    ) -> None:
        self._rewards = tuple(rewards)
        self._on_failure = on_failure
        self._max_failed_share = max_failed_share
        self.names = tuple(reward.name for reward in rewards)

    def score(self, media: Tensor, prompts: Prompts, group: Tensor) -> Scores:
        """Score B samples.

        Args:
            media: pixels, shape (B, ...).
            prompts: the prompt of every sample, length B.
            group: the group of every sample, shape (B,).

        Raises:
            RewardError: a reward returned another shape, or failed where failures are not
                allowed; the message names reward, sample and cause.
        """
        columns = [self._run(entry, media, prompts) for entry in self._rewards]
        value = torch.stack([column.value for column in columns], dim=1)
        status = torch.stack([column.status for column in columns], dim=1)
        failed = (status != Status.OK).any(1)
        causes = "; ".join(column.cause for column in columns if column.cause)
        self._check(failed, causes, next((column.hint for column in columns if column.hint), ""))
        if self._on_failure == "drop_group" and causes:
            failed = torch.isin(group.cpu(), group.cpu()[failed])
        if failed.all():
            raise RewardError(f"No sample of the batch is left with a reward: {causes}.")
        weights = torch.tensor([entry.weight for entry in self._rewards])
        combined = torch.where(failed[:, None], 0, value) @ weights
        return Scores(value, status, self.names, combined, ~failed)

    def _check(self, failed: Tensor, causes: str, hint: str) -> None:
        if not causes:
            return
        share = float(failed.float().mean())
        if self._on_failure == "abort":
            raise RewardError(
                f"{causes}.",
                hint=hint or 'scoring.on_failure = "drop_sample" trains on without such samples',
            )
        if share > self._max_failed_share:
            raise RewardError(
                f"{share:.0%} of the samples have no reward, above the limit of "
                f"{self._max_failed_share:.0%}: {causes}.",
                hint=hint or "see scoring.max_failed_share",
            )
        logger.warning("%s", causes)

    def _run(self, entry: WeightedReward, media: Tensor, prompts: Prompts) -> _Column:
        size = len(media)
        returned: object
        errors: SampleError | None = None
        try:
            with torch.no_grad():
                returned = entry.reward.score(media, prompts)
        except SampleError as error:
            returned, errors = error.value, error
        except DDRLError as error:
            cause = f"reward {entry.name!r} failed: {error.message.rstrip('.')}"
            return _Column.failure(size, cause, error.hint)
        except Exception as error:
            # A reward is somebody's code: whatever it raises is a failed reward, with its cause.
            cause = f"{type(error).__name__}: {error}"
            logger.debug("reward %s failed", entry.name, exc_info=True)
            return _Column.failure(size, f"reward {entry.name!r} failed on {size} samples: {cause}")
        if not isinstance(returned, Tensor) or returned.shape != (size,):
            found = tuple(returned.shape) if isinstance(returned, Tensor) else type(returned)
            raise RewardError(
                f"Reward {entry.name!r} returned {found} for {size} samples, not shape ({size},).",
                hint="a reward returns one float per sample",
            )
        return _Column.of(entry.name, returned.detach().float().cpu(), prompts, errors)


@dataclass(frozen=True)
class _Column:
    """One reward's values, statuses, and in words what went wrong (or nothing)."""

    value: Tensor
    status: Tensor
    cause: str
    hint: str = ""

    @classmethod
    def failure(cls, size: int, cause: str, hint: str = "") -> _Column:
        status = torch.full((size,), int(Status.ERROR))
        return cls(torch.full((size,), torch.nan), status, cause, hint)

    @classmethod
    def of(cls, name: str, value: Tensor, prompts: Prompts, errors: SampleError | None) -> _Column:
        """Values of shape (B,) with the status of each.

        Args:
            name: of the reward.
            value: what it returned, on the CPU.
            prompts: the prompt of every sample.
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
                f"{first} ({prompts.text[first]!r}): {errors.causes[first]}"
            )
        if (odd := (status == Status.NOT_FINITE).nonzero()).numel():
            first = int(odd[0])
            told.append(
                f"reward {name!r} returned {float(value[first])} for {len(odd)} of {size} "
                f"samples, the first is sample {first} ({prompts.text[first]!r})"
            )
        hint = "" if errors is None else errors.hint
        return cls(value.where(status == Status.OK, torch.nan), status, "; ".join(told), hint)
