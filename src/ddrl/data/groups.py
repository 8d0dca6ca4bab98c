"""Deals prompts, group members and anchor data to iterations.

Everything is a function of the step number, so a resumed run continues where the straight run
would have gone, and no position has to be saved. Prompts go round in shuffled epochs; each time
a prompt comes up it takes the next rows of its own shuffled pool of data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ddrl.errors import DataError
from ddrl.seeding import permutation

__all__ = ["AnchorMode", "Dealer", "Hand"]

AnchorMode = Literal["paired", "independent"]


@dataclass(frozen=True)
class Hand:
    """What one iteration works on.

    Attributes:
        prompt_id: caption of each group, shape (G,).
        anchor_row: rows of the data set, group by group, shape (G m,).
    """

    prompt_id: Tensor
    anchor_row: Tensor


class Dealer:
    """Deals G prompts and G m data rows per step.

    Args:
        caption_id: the caption of every data row, shape (N,).
        num_prompts: number of captions.
        seed: of the run.
        prompts_per_step: G.
        anchors_per_group: m; 0 deals none.
        mode: ``paired``: rows with the group's own caption; ``independent``: any rows.

    Raises:
        DataError: a caption has no data although the rows are to be paired.
    """

    def __init__(
        self,
        caption_id: Tensor,
        *,
        num_prompts: int,
        seed: int,
        prompts_per_step: int,
        anchors_per_group: int,
        mode: AnchorMode = "paired",
    ) -> None:
        self._seed = seed
        self._num_prompts = num_prompts
        self._prompts_per_step = prompts_per_step
        self._anchors_per_group = anchors_per_group
        self._mode = mode
        everything = torch.arange(len(caption_id))
        self._pools = (
            [everything[caption_id == i] for i in range(num_prompts)]
            if mode == "paired"
            else [everything]
        )
        empty = [i for i, pool in enumerate(self._pools) if not len(pool)]
        if empty and anchors_per_group:
            raise DataError(
                f"{len(empty)} of {num_prompts} prompts have no data, the first is number "
                f"{empty[0]}, but the anchor is paired.",
                hint='give each prompt data, or set data.anchor = "independent"',
            )

    def deal(self, step: int) -> Hand:
        """Return the hand of this step (counted from 0)."""
        size = self._prompts_per_step
        prompts, rows = [], []
        for position in range(step * size, (step + 1) * size):
            epoch, place = divmod(position, self._num_prompts)
            prompt = int(permutation(self._num_prompts, self._seed, "prompts", epoch)[place])
            prompts.append(prompt)
            if self._mode == "paired":
                rows.append(self._next(prompt, epoch))
            else:
                rows.append(self._next(0, position))
        return Hand(torch.tensor(prompts), torch.cat(rows))

    def _next(self, pool_id: int, turn: int) -> Tensor:
        """The rows that a pool gives at its ``turn``-th time: it is shuffled anew when used up."""
        pool = self._pools[pool_id]
        wanted = self._anchors_per_group
        rows = torch.empty(wanted, dtype=torch.int64)
        filled = 0
        while filled < wanted:
            epoch, place = divmod(turn * wanted + filled, len(pool))
            order = permutation(len(pool), self._seed, "anchors", pool_id, epoch)
            taken = order[place : place + wanted - filled]
            rows[filled : filled + len(taken)] = pool[taken]
            filled += len(taken)
        return rows
