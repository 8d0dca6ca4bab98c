"""Runs the rewards of a batch into one :class:`~ddrl.records.Scores`.

A failure is a status, never a number: the sample (or its group) is dropped, or the run stops.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ddrl.errors import DDRLError, RewardError
from ddrl.records import Prompts, Scores, Status
from ddrl.rewards.base import Reward, SampleError
from ddrl.rewards.column import Column
from ddrl.rewards.combine import Combination, combine, weighted_sum
from ddrl.rewards.lane import Lane

__all__ = ["FailurePolicy", "Scorer", "WeightedReward"]

FailurePolicy = Literal["drop_sample", "drop_group", "abort"]

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0  # seconds between two attempts


@dataclass(frozen=True)
class WeightedReward:
    """A reward and how it is used.

    Attributes:
        name: in logs and metrics.
        reward: it.
        weight: in the sum.
        timeout: seconds that a batch may take, with retries; 0 = no limit.
        retries: how often a call that raised is made again.
        samples_per_call: samples that it is given at once; 0 = all.
    """

    name: str
    reward: Reward
    weight: float = 1.0
    timeout: float = 0.0
    retries: int = 0
    samples_per_call: int = 0


class Scorer:
    """Scores batches with several rewards, which run at the same time.

    A single reward without a timeout runs in the caller's thread, every other in one of its own.

    Args:
        rewards: at least one; names are distinct.
        on_failure: what a failed reward costs: its sample, the sample's whole group, or the run.
        max_failed_share: above this share of failed samples in a batch the run stops anyway.
        combination: how the rewards of a sample become one.
        kappa: see :func:`~ddrl.rewards.combine.combine`.
        pause: seconds before the first retry; each further one takes twice as long, up to 60.
    """

    def __init__(
        self,
        rewards: Sequence[WeightedReward],
        *,
        on_failure: FailurePolicy = "abort",
        max_failed_share: float = 0.25,
        combination: Combination = "sum",
        kappa: float = 1.0,
        pause: float = 1.0,
    ) -> None:
        self._rewards = tuple(rewards)
        self._on_failure = on_failure
        self._max_failed_share = max_failed_share
        self._combination: Combination = combination
        self._kappa = kappa
        self._pause = pause
        self._lanes = tuple(Lane() for _ in rewards)
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
        columns = self._columns(media, prompts)
        value = torch.stack([column.value for column in columns], dim=1)
        status = torch.stack([column.status for column in columns], dim=1)
        failed = (status != Status.OK).any(1)
        causes = "; ".join(column.cause for column in columns if column.cause)
        self._check(failed, causes, next((column.hint for column in columns if column.hint), ""))
        if self._on_failure == "drop_group" and causes:
            failed = torch.isin(group.cpu(), group.cpu()[failed])
        if failed.all():
            raise RewardError(f"No sample of the batch is left with a reward: {causes}.")
        weights, valid = torch.tensor([entry.weight for entry in self._rewards]), ~failed
        combined = combine(value, weights, valid, combination=self._combination, kappa=self._kappa)
        return Scores(
            value, status, self.names, combined, valid, weighted_sum(value, weights, valid)
        )

    def _columns(self, media: Tensor, prompts: Prompts) -> list[Column]:
        """What each reward returns, in the order of the recipe."""
        if len(self._rewards) == 1 and not self._rewards[0].timeout:
            parts: list[Column] = []
            self._run(self._rewards[0], media, prompts, parts, threading.Event())
            return [Column.join(parts)]
        started = []
        for entry, lane in zip(self._rewards, self._lanes, strict=True):
            parts = []
            work = partial(self._run, entry, media, prompts, parts)
            started.append((entry, parts, lane.start(work, name=f"reward {entry.name}")))
        columns = []
        for entry, parts, call in started:
            try:
                call.result(entry.timeout)
                found = parts
            except TimeoutError:
                found = list(parts)  # it may still be growing
                start = sum(len(part.value) for part in found)
                if start < len(media):
                    found.append(Column.late(entry.name, prompts, start, entry.timeout))
            columns.append(Column.join(found))
        return columns

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

    def _run(
        self,
        entry: WeightedReward,
        media: Tensor,
        prompts: Prompts,
        parts: list[Column],
        left: threading.Event,
    ) -> None:
        """Append one reward's columns, a call each, to ``parts``, unless nobody waits: ``left``.

        Raises:
            RewardError: it returned another shape.
        """
        size = len(media)
        whole = max(size, 1)
        step = entry.samples_per_call or whole
        for start in range(0, whole, step):
            if left.is_set():
                return
            rows = range(start, min(start + step, size))
            few = prompts if len(rows) == size else prompts.select(rows)
            parts.append(self._call(entry, media[start : rows.stop], few, start, left))

    def _call(
        self,
        entry: WeightedReward,
        media: Tensor,
        prompts: Prompts,
        start: int,
        left: threading.Event,
    ) -> Column:
        """One call, with its retries; ``start`` is the number of its first sample.

        Raises:
            RewardError: it returned another shape.
        """
        size = len(media)
        for attempt in range(entry.retries + 1):
            returned: object
            errors: SampleError | None = None
            try:
                with torch.no_grad():
                    returned = entry.reward.score(media, prompts)
            except SampleError as error:  # an answer, which another attempt would not change
                returned, errors = error.value, error
            except Exception as error:
                # A reward is somebody's code: whatever it raises is a failed reward.
                failure = Column.failure(size, *_cause(entry, prompts, start, error), attempt)
                if attempt == entry.retries or left.is_set():
                    return failure
                seconds = min(self._pause * 2**attempt, LONGEST_PAUSE)
                logger.warning("%s; trying again in %g s", failure.cause, seconds)
                if left.wait(seconds):
                    return failure
                continue
            break
        if not isinstance(returned, Tensor) or returned.shape != (size,):
            found = tuple(returned.shape) if isinstance(returned, Tensor) else type(returned)
            raise RewardError(
                f"Reward {entry.name!r} returned {found} for {size} samples, not shape ({size},).",
                hint="a reward returns one float per sample",
            )
        return Column.of(
            entry.name, returned.detach().float().cpu(), prompts, start=start, errors=errors
        )


def _cause(
    entry: WeightedReward, prompts: Prompts, start: int, error: Exception
) -> tuple[str, str]:
    """Why a reward failed, and what the user can do about it."""
    name, where = entry.name, ""
    if entry.samples_per_call:
        where = f" from sample {start} ({prompts.text[0]!r}) on"
    if isinstance(error, DDRLError):
        return f"reward {name!r} failed{where}: {error.message.rstrip('.')}", error.hint
    logger.debug("reward %s failed", name, exc_info=error)
    cause = f"{type(error).__name__}: {error}"
    return f"reward {name!r} failed on {len(prompts)} samples{where}: {cause}", ""
