"""Runs the rewards of a batch into one :class:`~ddrl.records.Scores`.

A failure is a status, never a number: the sample (or its group) is dropped, or the run stops.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts, Scores, Status
from ddrl.rewards.level import is_group_level, plan_calls
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.batch import Scoring
from ddrl.rewards.scoring.column import Column
from ddrl.rewards.scoring.combine import Combination, combine, weighted_sum
from ddrl.rewards.scoring.lane import Lane

FailurePolicy = Literal["drop_sample", "drop_group", "abort"]

logger = logging.getLogger(__name__)


class Scorer:
    """Scores batches with several rewards, which run at the same time.

    A single reward without a timeout runs in the caller's thread if all samples come at once,
    every other in one of its own.

    Args:
        rewards: at least one; names are distinct.
        on_failure: what a failed reward costs: its sample, the sample's whole group, or the run.
        max_failed_share: above this share of failed samples in a batch the run stops anyway.
        combination: how the rewards of a sample become one.
        kappa: as in :func:`~ddrl.rewards.scoring.combine.combine`.
        pause: seconds before the first retry; each further one takes twice as long, up to 60.

    Raises:
        RewardError: a reward of whole groups has a cache.
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
        for entry in rewards:
            if is_group_level(entry.reward) and entry.cache is not None:
                raise RewardError(
                    f"Reward {entry.name!r} scores whole groups, so no sample's result can be kept "
                    "for another batch.",
                    hint="set cache = false in its section",
                )
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
        with self.begin(prompts, group) as scoring:
            scoring.add(media)
            return scoring.result()

    def begin(self, prompts: Prompts, group: Tensor, *, part_size: int = 0) -> Scoring:
        """Begin to score B samples that are handed over in parts.

        The result is that of :meth:`score` for all of them at once, if rewards score a sample
        alone as they do among others.

        Args:
            prompts: the prompt of every sample, length B.
            group: the group of every sample, shape (B,).
            part_size: samples of every part but the last; 0: all of them are one part.
        """
        size, group = len(prompts), group.cpu()
        step = part_size or max(size, 1)
        ends = [min(start + step, size) for start in range(0, size, step)]
        return Scoring(
            self._rewards,
            self._lanes,
            prompts,
            group,
            ends,
            pause=self._pause,
            finish=lambda columns: self._finish(columns, group),
        )

    def score_in_parts(
        self,
        media: Callable[[Tensor], Tensor],
        prompts: Prompts,
        group: Tensor,
        *,
        part_size: int,
    ) -> Scores:
        """Score B samples of which only a part is in memory at a time; see :meth:`begin`.

        Args:
            media: makes pixels, shape (P, ...), of the samples at P places, shape (P,).
            prompts: the prompt of every sample, length B.
            group: the group of every sample, shape (B,).
            part_size: samples of a part; more where a reward looks at whole groups that are larger.

        Raises:
            RewardError: as :meth:`score`.
        """
        group = group.cpu()
        whole = any(is_group_level(entry.reward) for entry in self._rewards)
        plan = plan_calls(group, [len(group)], whole_groups=whole, samples_per_call=part_size)
        parts: list[list[Column]] = [[] for _ in self._rewards]
        for rows in plan:
            index = torch.tensor(rows)
            with self.begin(prompts.select(rows), group[index]) as scoring:
                scoring.add(media(index))
                found = scoring.columns()
            for column, known in zip(found, parts, strict=True):
                known.append(replace(column, rows=[rows[place] for place in column.rows]))
            if self._on_failure == "abort" and any(column.cause for column in found):
                break  # the rest would be scored for nothing
        return self._finish([Column.merge(known) for known in parts], group)

    def measure(self, media: Tensor, prompts: Prompts, group: Tensor) -> tuple[Column, ...]:
        """Score as :meth:`score` does, whatever fails: no policy applies.

        Returns:
            For each reward its values, NaN where it failed, and why.
        """
        with self.begin(prompts, group) as scoring:
            scoring.add(media)
            return tuple(scoring.columns(strict=False))

    def _finish(self, columns: Sequence[Column], group: Tensor) -> Scores:
        value = torch.stack([column.value for column in columns], dim=1)
        status = torch.stack([column.status for column in columns], dim=1)
        failed = (status != Status.OK).any(1)
        causes = "; ".join(column.cause for column in columns if column.cause)
        self._check(failed, causes, next((column.hint for column in columns if column.hint), ""))
        if self._on_failure == "drop_group" and causes:
            failed = torch.isin(group, group[failed])
        if failed.all():
            raise RewardError(
                f"No sample of the batch is left with a reward: {causes}.",
                hint="see what each reward says, and scoring.on_failure",
            )
        weights, valid = torch.tensor([entry.weight for entry in self._rewards]), ~failed
        combined = combine(value, weights, valid, combination=self._combination, kappa=self._kappa)
        return Scores(
            value,
            status,
            self.names,
            combined,
            valid,
            weighted_sum(value, weights, valid),
            tuple(
                column.num_cached if entry.cache is not None else None
                for entry, column in zip(self._rewards, columns, strict=True)
            ),
        )

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
