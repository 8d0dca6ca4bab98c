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

AnchorMode = Literal["paired", "independent", "synthetic", "mixed"]


@dataclass(frozen=True)
class Hand:
    """What one iteration works on.

    Attributes:
        prompt_id: caption of each group, shape (G,).
        anchor_row: rows of the data set, group by group, shape (G m,).
        size: the size of all of it, where there are several.
    """

    prompt_id: Tensor
    anchor_row: Tensor
    size: int = 0


def num_synthetic(anchors_per_group: int, share: float) -> int:
    """Return how many of a mixed group's anchors are synthetic, at least one of each kind."""
    return max(0, min(max(round(share * anchors_per_group), 1), anchors_per_group - 1))


class Dealer:
    """Deals G prompts and G m data rows per step.

    Args:
        caption_id: the caption of every data row, shape (N,).
        num_prompts: number of captions.
        seed: of the run.
        prompts_per_step: G.
        anchors_per_group: m; 0 deals none; ``mixed`` needs 2.
        mode: ``paired`` and ``synthetic``: rows with the group's own caption; ``independent``: any
            rows; ``mixed``: real and synthetic rows with the group's own caption.
        num_real: rows that are real data; those after them are synthetic (``mixed`` only).
        share: of a group's rows that is synthetic, see :func:`num_synthetic` (``mixed`` only).

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
        num_real: int = 0,
        share: float = 0.5,
    ) -> None:
        self._seed = seed
        self._num_prompts = num_prompts
        self._prompts_per_step = prompts_per_step
        self._anchors_per_group = anchors_per_group
        self._mode = mode
        self._num_synthetic = num_synthetic(anchors_per_group, share) if mode == "mixed" else 0
        rows = torch.arange(len(caption_id))
        kinds = [rows[:num_real], rows[num_real:]] if mode == "mixed" else [rows]
        self._pools = (
            kinds
            if mode == "independent"
            else [kind[caption_id[kind] == i] for kind in kinds for i in range(num_prompts)]
        )
        empty = [i % num_prompts for i, pool in enumerate(self._pools) if not len(pool)]
        if empty and anchors_per_group:
            raise DataError(
                f"{len(empty)} of {num_prompts} prompts have no data, the first is number "
                f"{empty[0]}, but the anchor is {mode}.",
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
            if self._mode == "mixed":
                rows.append(self._mixed(prompt, epoch))
            elif self._mode == "independent":
                rows.append(self._next(0, position, self._anchors_per_group))
            else:
                rows.append(self._next(prompt, epoch, self._anchors_per_group))
        return Hand(torch.tensor(prompts), torch.cat(rows))

    def _mixed(self, prompt: int, epoch: int) -> Tensor:
        """Real and synthetic rows of a prompt, shuffled: an update takes a part of every group."""
        wanted, made = self._anchors_per_group, self._num_synthetic
        real = self._next(prompt, epoch, wanted - made)
        synthetic = self._next(self._num_prompts + prompt, epoch, made)
        order = permutation(wanted, self._seed, "mix", prompt, epoch)
        return torch.cat([real, synthetic])[order]

    def _next(self, pool_id: int, turn: int, wanted: int) -> Tensor:
        """Return a pool's rows of its ``turn``-th time; a used up pool is shuffled again."""
        pool = self._pools[pool_id]
        rows = torch.empty(wanted, dtype=torch.int64)
        filled = 0
        while filled < wanted:
            epoch, place = divmod(turn * wanted + filled, len(pool))
            order = permutation(len(pool), self._seed, "anchors", pool_id, epoch)
            taken = order[place : place + wanted - filled]
            rows[filled : filled + len(taken)] = pool[taken]
            filled += len(taken)
        return rows
