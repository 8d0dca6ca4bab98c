"""Deals iterations of one size each from data of several.

Prompts go round in shuffled epochs, as with one size. Each time a prompt comes up it has one size,
and waits until as many prompts of that size are together as an iteration takes: so every prompt
comes up once an epoch, in each of its sizes as often as it has samples of it, whatever the sizes.
What is dealt is a function of the seed and the step: a resumed run deals what came before again.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ddrl.data.groups import Hand
from ddrl.errors import DataError
from ddrl.seeding import permutation


@dataclass(frozen=True)
class _Turn:
    """A prompt that has come up: in which size, and the how-manieth of its pool of data this is."""

    prompt: int
    pool: int
    number: int


class SizedDealer:
    """Deals G prompts of one size and G m data rows of that size per step.

    Args:
        caption_id: the caption of every data row, shape (N,).
        size_id: the size of every data row, shape (N,).
        num_prompts: number of captions.
        num_sizes: number of sizes.
        seed: of the run.
        prompts_per_step: G.
        anchors_per_group: m; 0 deals none.
        mode: ``paired``: a prompt has the sizes of its own data, and rows with its caption;
            ``independent``: it has any size, drawn by the shares of the data, and any rows of it.

    Raises:
        DataError: a caption has no data although its size is that of its data.
    """

    def __init__(
        self,
        caption_id: Tensor,
        size_id: Tensor,
        *,
        num_prompts: int,
        num_sizes: int,
        seed: int,
        prompts_per_step: int,
        anchors_per_group: int,
        mode: Literal["paired", "independent"] = "paired",
    ) -> None:
        self._seed, self._mode = seed, mode
        self._num_prompts, self._num_sizes = num_prompts, num_sizes
        self._prompts_per_step, self._anchors_per_group = prompts_per_step, anchors_per_group
        self._sizes: list[int] = size_id.tolist()
        self._pools: dict[int, Tensor] = {}
        if mode == "paired":
            self._own: list[list[int]] = [[] for _ in range(num_prompts)]
            for row, prompt in enumerate(caption_id.tolist()):
                self._own[prompt].append(row)
            empty = [prompt for prompt, rows in enumerate(self._own) if not len(rows)]
            if empty:
                raise DataError(
                    f"{len(empty)} of {num_prompts} prompts have no data, the first is number "
                    f"{empty[0]}, and their sizes are those of their data.",
                    hint='give each prompt data, or set data.anchor = "independent"',
                )
        self._hands: list[tuple[int, list[_Turn]]] = []
        self._waiting: list[deque[_Turn]] = [deque() for _ in range(self._num_sizes)]
        self._turns: Counter[int] = Counter()
        self._position = 0
        self._order: dict[str, tuple[int, list[int]]] = {}

    def deal(self, step: int) -> Hand:
        """Return the hand of this step (counted from 0)."""
        while len(self._hands) <= step:
            self._come_up()
        size, turns = self._hands[step]
        rows = [self._rows(turn) for turn in turns]
        return Hand(torch.tensor([turn.prompt for turn in turns]), torch.cat(rows), size)

    def steps_by_size(self, num_steps: int) -> list[int]:
        """Return how many of the first steps each size has."""
        if num_steps:
            self.deal(num_steps - 1)
        counts = Counter(size for size, _ in self._hands[:num_steps])
        return [counts[size] for size in range(self._num_sizes)]

    def _come_up(self) -> None:
        """Have the next prompt come up; deal a hand if that makes enough of its size."""
        position, self._position = self._position, self._position + 1
        epoch, place = divmod(position, self._num_prompts)
        prompt = self._shuffled("prompts", self._num_prompts, epoch)[place]
        if self._mode == "independent":
            turn, place = divmod(position, len(self._sizes))
            row = self._shuffled("sizes", len(self._sizes), turn)[place]
        else:
            row = self._own_row(prompt, epoch)
        size = self._sizes[row]
        pool = size if self._mode == "independent" else prompt * self._num_sizes + size
        self._waiting[size].append(_Turn(prompt, pool, self._turns[pool]))
        self._turns[pool] += 1
        if len(self._waiting[size]) == self._prompts_per_step:
            self._hands.append((size, list(self._waiting[size])))
            self._waiting[size].clear()

    def _own_row(self, prompt: int, epoch: int) -> int:
        """Return the row whose size a prompt has in an epoch: each of its own equally often."""
        rows = self._own[prompt]
        if len(rows) == 1:
            return rows[0]
        turn, place = divmod(epoch, len(rows))
        order = permutation(len(rows), self._seed, "sizes", prompt, turn)
        return rows[int(order[place])]

    def _shuffled(self, purpose: str, length: int, turn: int) -> list[int]:
        """Return a named order, of which the last is kept: it is asked for place by place."""
        if self._order.get(purpose, (-1, []))[0] != turn:
            order = permutation(length, self._seed, purpose, turn)
            self._order[purpose] = (turn, order.tolist())
        return self._order[purpose][1]

    def _rows(self, turn: _Turn) -> Tensor:
        """Return the data rows of a turn: its pool's next; a used up pool is shuffled again."""
        wanted = self._anchors_per_group
        rows = torch.empty(wanted, dtype=torch.int64)
        pool, filled = self._pool(turn.pool) if wanted else rows, 0
        while filled < wanted:
            epoch, place = divmod(turn.number * wanted + filled, len(pool))
            order = permutation(len(pool), self._seed, "anchors", turn.pool, epoch)
            part = pool[order[place : place + wanted - filled]]
            rows[filled : filled + len(part)] = part
            filled += len(part)
        return rows

    def _pool(self, number: int) -> Tensor:
        """Rows of a size, and of a prompt where they are paired; found when first asked for."""
        if number not in self._pools:
            prompt, size = divmod(number, self._num_sizes)
            rows = self._own[prompt] if self._mode == "paired" else range(len(self._sizes))
            self._pools[number] = torch.tensor([row for row in rows if self._sizes[row] == size])
        return self._pools[number]
