"""The samples and data of one optimizer step, and the split of a rollout into several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ddrl.records import Advantages, Anchor, Trajectory
from ddrl.training.update import Gradient


@dataclass(frozen=True)
class Minibatch:
    """The samples and data of one optimizer step.

    Attributes:
        trajectory: rollouts; None where there is no policy term.
        advantages: advantages of the rollouts; None where there are no rollouts.
        anchor: data; None where there is no data term.
        num_anchors: number of anchors in the whole iteration; None: all are here.
        correction: see :meth:`ddrl.training.update.Gradient.return_correction`.
        is_first: whether it is the first of its rollout, whose weights have not moved since.
    """

    trajectory: Trajectory | None = None
    advantages: Advantages | None = None
    anchor: Anchor | None = None
    num_anchors: int | None = None
    correction: Tensor | None = None
    is_first: bool = True


def split(batch: Minibatch, num_updates: int) -> list[Minibatch]:
    """Split into ``num_updates`` minibatches, each with members of every group.

    Rows of a group are consecutive, so every num_updates-th row goes to one update. Advantages
    and corrections keep the statistics of the whole groups.
    """
    num_anchors = None if batch.anchor is None else len(batch.anchor)
    parts = []
    for index in range(num_updates):
        rows = slice(index, None, num_updates)
        parts.append(
            Minibatch(
                None if batch.trajectory is None else batch.trajectory.select(rows),
                None if batch.advantages is None else batch.advantages.select(rows),
                None if batch.anchor is None else batch.anchor.select(rows),
                num_anchors,
                None if batch.correction is None else batch.correction[rows],
                is_first=index == 0,
            )
        )
    return parts


def prepared(parts: Sequence[Minibatch], gradient: Gradient) -> list[Minibatch]:
    """Give the minibatches of a rollout what their ratios start from, before the first update.

    The first needs nothing, and none does where ratios are to the rollout's own probabilities.

    Args:
        parts: minibatches of one rollout, in their order.
        gradient: gradient that they are for.
    """
    return list(_prepared(parts, gradient)) if gradient.own_ratio else list(parts)


def _prepared(parts: Sequence[Minibatch], gradient: Gradient) -> Iterator[Minibatch]:
    for part in parts:
        if part.is_first or part.trajectory is None:
            yield part
            continue
        log_prob = part.trajectory.log_prob.clone()
        log_prob[:, list(gradient.trained)] = gradient.replay(part.trajectory)
        yield replace(part, trajectory=replace(part.trajectory, log_prob=log_prob))
