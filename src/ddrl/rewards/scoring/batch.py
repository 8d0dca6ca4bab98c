"""A batch that is being scored, while its samples may still be coming in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Self

from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts, Scores
from ddrl.rewards.level import is_group_level, plan_calls
from ddrl.rewards.scoring.attempt import Piece, WeightedReward, attempt
from ddrl.rewards.scoring.column import Column
from ddrl.rewards.scoring.feed import Feed
from ddrl.rewards.scoring.lane import Call, Lane

Parts = list[Column]


class Scoring:
    """A batch that is being scored; made by :meth:`~ddrl.rewards.scoring.scorer.Scorer.begin`.

    As a context it leaves, at its end, calls that are still being made to themselves.

    Args:
        rewards: what scores it.
        lanes: the thread of each.
        prompts: the prompt of every sample, length B.
        group: the group of every sample, shape (B,), on the CPU.
        ends: where each part that will be added ends.
        pause: seconds before the first retry of a call.
        finish: turns the columns into the result.
    """

    def __init__(
        self,
        rewards: Sequence[WeightedReward],
        lanes: Sequence[Lane],
        prompts: Prompts,
        group: Tensor,
        ends: Sequence[int],
        *,
        pause: float,
        finish: Callable[[list[Column]], Scores],
    ) -> None:
        self._rewards, self._prompts, self._group = tuple(rewards), prompts, group
        self._pause, self._finish, self._feed = pause, finish, Feed()
        self._handed_over = 0.0
        self._plans = [
            plan_calls(
                group,
                ends,
                whole_groups=is_group_level(entry.reward),
                samples_per_call=entry.samples_per_call,
            )
            for entry in rewards
        ]
        self._parts: list[Parts] = [[] for _ in rewards]
        self._calls: list[Call[None]] = []
        if len(rewards) == 1 and not rewards[0].timeout and len(ends) <= 1:
            return  # nothing can run at the same time: it runs where the result is asked for
        for place, (entry, lane) in enumerate(zip(rewards, lanes, strict=True)):
            self._calls.append(lane.start(partial(self._run, place), name=f"reward {entry.name}"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for call in self._calls:
            call.leave()
        self._feed.close()

    def add(self, media: Tensor) -> None:
        """Hand over the next samples, shape (P, ...)."""
        self._handed_over = time.monotonic()
        self._feed.add(media)

    def result(self) -> Scores:
        """Wait for the rewards, each until its timeout after the last samples were handed over.

        Raises:
            RewardError: a reward returned another shape, or failed where failures are not
                allowed; the message names reward, sample and cause.
        """
        return self._finish(self.columns())

    def columns(self, *, strict: bool = True) -> list[Column]:
        """Return what each reward returned, failed or not, in the order of the rewards.

        Args:
            strict: whether an answer that is not one float per sample is raised, or a failure too.

        Raises:
            RewardError: a reward returned another shape.
        """
        assert len(self._feed) == len(self._prompts), "all samples have been added"
        found = []
        for place in range(len(self._rewards)):
            try:
                found.append(self._column(place))
            except RewardError as error:
                if strict:
                    raise
                rows = range(len(self._prompts))
                found.append(Column.failure(rows, error.message.rstrip("."), error.hint))
        return found

    def _column(self, place: int) -> Column:
        if not self._calls:
            self._run(place, threading.Event())
            return Column.merge(self._parts[place])
        entry = self._rewards[place]
        deadline = self._handed_over + entry.timeout if entry.timeout else None
        try:
            self._calls[place].result(deadline)
            found = self._parts[place]
        except TimeoutError:
            found = list(self._parts[place])  # it may still be growing
            answered = {row for part in found for row in part.rows}
            late = [row for row in range(len(self._prompts)) if row not in answered]
            if late:
                found.append(
                    Column.late(entry.name, self._prompts, late, entry.timeout, table=entry.table)
                )
        return Column.merge(found)

    def _run(self, place: int, left: threading.Event) -> None:
        """Make the calls of a reward one after another, each when its samples are there."""
        entry, parts = self._rewards[place], self._parts[place]
        size = len(self._prompts)
        for rows in self._plans[place]:
            media = self._feed.take(rows)
            if media is None or left.is_set():
                return
            is_whole = len(rows) == size
            piece = Piece(
                media,
                self._prompts if is_whole else self._prompts.select(rows),
                self._group if is_whole else self._group[list(rows)],
                rows,
                is_whole,
            )
            parts.append(attempt(entry, piece, pause=self._pause, left=left))
