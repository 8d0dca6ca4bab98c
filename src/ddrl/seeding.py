"""Randomness has names: a generator is made from (run seed, purpose, indices) by a stable hash.

Nothing here keeps state, so a resumed run draws what the straight run would have drawn, and a
sample's noise is the same for any micro-batch size and any number of processes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

BLOCK = 16  # PyTorch draws normal numbers in blocks of this many, or one by one

SMALL = 4096
"""Numbers in a sample's latents below which all steps are drawn at once: a call costs more."""

AHEAD = 2
"""Buffers: the work has one step's noise, and the thread draws the next step's."""


def derive_seed(run_seed: int, purpose: str, *indices: int) -> int:
    """Hash a run seed, a purpose and indices to one seed, the same on every machine.

    Args:
        run_seed: the seed of the run.
        purpose: what the numbers are for, for example ``"rollout"``.
        indices: what tells draws of one purpose apart, for example step and sample id.

    Returns:
        An integer in [0, 2^63).
    """
    name = "/".join([str(run_seed), purpose, *map(str, indices)])
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(run_seed: int, purpose: str, *indices: int) -> torch.Generator:
    """Return a CPU generator seeded by :func:`derive_seed`.

    It always lives on the CPU: a CUDA generator draws other numbers, and the same sample has to
    come out on every device.
    """
    return torch.Generator().manual_seed(derive_seed(run_seed, purpose, *indices))


def permutation(length: int, run_seed: int, purpose: str, *indices: int) -> Tensor:
    """Return a named random permutation of ``range(length)``, shape (length,), int64."""
    return torch.randperm(length, generator=generator(run_seed, purpose, *indices))


def sample_noise(
    shape: Sequence[int],
    *,
    run_seed: int,
    purpose: str,
    step: int,
    sample_ids: Sequence[int],
) -> Tensor:
    """Draw standard normal noise, one named generator per sample.

    Args:
        shape: the shape of one sample's noise.
        run_seed: the seed of the run.
        purpose: what the noise is for.
        step: the optimizer step (or any counter of the caller).
        sample_ids: one integer per sample; equal ids get equal noise.

    Returns:
        Noise on the CPU, float32, shape (len(sample_ids), *shape).
    """
    noise = torch.empty((len(sample_ids), *shape))
    rng = torch.Generator()
    seeds = _sample_seeds(run_seed, purpose, step, sample_ids)
    for row, seed in zip(noise.unbind(), seeds, strict=True):
        row.normal_(generator=rng.manual_seed(seed))
    return noise


class SampleNoise:
    """The noise of :func:`sample_noise`, bit for bit, drawn in pieces as it is needed.

    For rows of many steps, where all of them at once would be large.

    Args:
        shape: the shape of one step's noise.
        num_steps: steps per sample.
        run_seed: the seed of the run.
        purpose: what the noise is for.
        step: the optimizer step.
        sample_ids: one integer per sample.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        num_steps: int,
        run_seed: int,
        purpose: str,
        step: int,
        sample_ids: Sequence[int],
    ) -> None:
        self._shape = tuple(shape)
        seeds = _sample_seeds(run_seed, purpose, step, sample_ids)
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._drawn = [0] * len(self._generators)
        self._whole: Tensor | None = None
        if math.prod(shape) % BLOCK:  # a piece would not end where a block does
            self._whole = torch.empty((len(self._generators), num_steps, *shape))
            for row, rng in zip(self._whole.unbind(), self._generators, strict=True):
                row.normal_(generator=rng)

    def draw(
        self,
        rows: slice,
        steps: slice,
        *,
        out: Tensor | None = None,
        pin_memory: bool = False,
    ) -> Tensor:
        """The noise of some samples at some steps, on the CPU.

        Each sample's steps have to be taken in their order, since a generator only goes on.

        Args:
            rows: of the samples.
            steps: the next ones of these samples.
            out: memory to draw into, of at least so many rows of the same steps; default: new.
            pin_memory: where the noise is copied to a GPU without waiting.

        Returns:
            Float32, shape (rows, steps, *shape).
        """
        assert set(self._drawn[rows]) <= {steps.start}, "noise is drawn in the order of the steps"
        self._drawn[rows] = [steps.stop] * len(self._drawn[rows])
        if self._whole is not None:
            return self._whole[rows, steps]
        generators = self._generators[rows]
        size = (len(generators), steps.stop - steps.start, *self._shape)
        if out is not None and len(out) >= len(generators):
            noise = out[: len(generators)]
        else:
            noise = torch.empty(size, pin_memory=pin_memory)
        for row, rng in zip(noise.unbind(), generators, strict=True):
            row.normal_(generator=rng)
        return noise


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


def _sample_seeds(
    run_seed: int, purpose: str, step: int, sample_ids: Sequence[int]
) -> Iterator[int]:
    """derive_seed(run_seed, purpose, step, sample_id) of each, what they share hashed once."""
    shared = hashlib.blake2b(f"{run_seed}/{purpose}/{step}/".encode(), digest_size=8)
    for sample_id in sample_ids:
        named = shared.copy()
        named.update(b"%d" % sample_id)
        yield int.from_bytes(named.digest(), "big") >> 1
