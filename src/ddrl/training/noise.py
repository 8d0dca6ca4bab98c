"""The noise of rollouts, drawn step by step beside the work."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from ddrl.seeding import BLOCK, SampleNoise

SMALL = 4096
"""Numbers in a sample's latents below which all steps are drawn at once: a call costs more."""

AHEAD = 2
"""Buffers: the work has one step's noise, and the thread draws the next step's."""


def is_small(latent_shape: Sequence[int]) -> bool:
    """Return whether the noise of all steps is drawn, and is on the device, at once.

    Args:
        latent_shape: shape of one sample's latents.
    """
    size = math.prod(latent_shape)
    return size < SMALL or bool(size % BLOCK)  # a generator only goes on where a block ends


class NoiseAhead:
    """Gives noise in a fixed order, each piece drawn by a thread while the one before is used.

    A piece may be used until the next one is asked for.

    Args:
        noise: of all samples; its numbers do not depend on the pieces.
        order: rows and number of the step of each piece; steps of a row in their order.
        device: where the pieces are to be. To a GPU they are copied without waiting, from memory
            that is kept from being swapped out.
    """

    def __init__(
        self,
        noise: SampleNoise,
        order: Sequence[tuple[slice, int]],
        *,
        device: torch.device | str,
    ) -> None:
        self._noise, self._order, self._device = noise, order, torch.device(device)
        self._buffers: list[Tensor | None] = [None] * AHEAD
        self._copied: list[Any] = [None] * AHEAD

    def pieces(self) -> Generator[Tensor, None, None]:
        """Yield each piece, float32, shape (rows, ...); close it to end the thread early."""
        with ThreadPoolExecutor(1, thread_name_prefix="ddrl-noise") as pool:
            ahead: Future[Tensor] = pool.submit(self._draw, 0)
            for index in range(len(self._order)):
                drawn = ahead.result()
                if index + 1 < len(self._order):
                    ahead = pool.submit(self._draw, index + 1)
                yield self._moved(drawn, index)

    def _draw(self, index: int) -> Tensor:
        """Draw a piece into the buffer that is free by then."""
        slot = index % AHEAD
        copied = self._copied[slot]
        if copied is not None:
            copied.synchronize()
        rows, step = self._order[index]
        buffer = self._buffers[slot]
        drawn = self._noise.draw(
            rows, slice(step, step + 1), out=buffer, pin_memory=self._device.type == "cuda"
        )
        if buffer is None or len(buffer) < len(drawn):
            self._buffers[slot] = drawn
        return drawn[:, 0]

    def _moved(self, drawn: Tensor, index: int) -> Tensor:
        moved = drawn.to(self._device, non_blocking=True)
        if self._device.type != "cuda":
            return moved
        event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._copied[index % AHEAD] = event
        return moved
