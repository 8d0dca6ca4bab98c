"""Which samples a reward is given at once: some of them, or whole groups only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from torch import Tensor

from ddrl.errors import RewardError
from ddrl.rewards.base import GroupReward

LEVELS = ("sample", "group")
"""What the class attribute ``level`` of a reward can be; ``sample`` where there is none."""


def is_group_level(reward: object) -> TypeGuard[GroupReward]:
    """Return whether a reward, or a class of rewards, is given whole groups and their numbers.

    Raises:
        RewardError: its ``level`` is neither of :data:`LEVELS`.
    """
    level = getattr(reward, "level", "sample")
    if level not in LEVELS:
        cls = reward if isinstance(reward, type) else type(reward)
        raise RewardError(
            f"Reward {cls.__name__!r} has the level {level!r}.",
            hint=f"a reward's level is one of {', '.join(map(repr, LEVELS))}",
        )
    return bool(level == "group")


def plan_calls(
    group: Tensor, ends: Sequence[int], *, whole_groups: bool, samples_per_call: int = 0
) -> list[Sequence[int]]:
    """Plan which samples each call of a reward gets, by the batch alone and not by time.

    Of single samples, ``samples_per_call`` consecutive ones; 0: those of a part. Of whole groups,
    as many as ``samples_per_call`` holds, but at least one; 0: those that a part completes.

    Args:
        group: the group of every sample, shape (B,); the samples of a group may lie anywhere.
        ends: where each part of the batch ends; the last one is B.
        whole_groups: whether no group may be split.
        samples_per_call: how many samples a call gets; 0 for as many as there are.

    Returns:
        Ascending rows for each call, in the order in which the calls can be made.
    """
    size = len(group)
    if not whole_groups:
        stops = list(range(samples_per_call, size, samples_per_call)) if samples_per_call else ends
        starts = [0, *stops]
        return [
            range(start, stop)
            for start, stop in zip(starts, [*stops, size], strict=True)
            if start < stop
        ]
    members: dict[int, list[int]] = {}
    for row, number in enumerate(group.tolist()):
        members.setdefault(number, []).append(row)
    calls: list[Sequence[int]] = []
    taken: list[int] = []
    limit = 0  # end of the part that completes the groups taken
    for rows in sorted(members.values(), key=lambda rows: rows[-1]):
        last = rows[-1]
        is_full = len(taken) + len(rows) > samples_per_call if samples_per_call else last >= limit
        if taken and is_full:
            calls.append(sorted(taken))
            taken = []
        taken += rows
        limit = next(end for end in ends if end > last)
    if taken:
        calls.append(sorted(taken))
    return calls
