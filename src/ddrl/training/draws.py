"""The randomness of the data term: times, noise and text dropout, named after the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.objective.loss import Objective
from ddrl.objective.regularizer import draw_times
from ddrl.records import Anchor
from ddrl.seeding import SampleNoise, generator


@dataclass(frozen=True)
class DataDraws:
    """R rows for each of M data samples.

    Attributes:
        time: t, shape (M, R).
        step: the sampler's step whose interval holds t, shape (M, R).
        weight: see :class:`~ddrl.objective.regularizer.DataTimes`, shape (M, R).
        dropped: rows that lose their text, shape (M, R), on the CPU.
    """

    time: Tensor
    step: Tensor
    weight: Tensor
    dropped: Tensor
    _noise: SampleNoise
    _device: torch.device

    @classmethod
    def make(
        cls,
        anchor: Anchor,
        objective: Objective,
        *,
        times: Tensor,
        trained: Sequence[int],
        seed: int,
        step: int,
        num_anchors: int,
        device: torch.device | str,
    ) -> DataDraws:
        """Draw everything but the noise, which is drawn pass by pass.

        Args:
            anchor: M clean samples.
            objective: the loss: the law of the times and the share of dropped texts.
            times: the sampler's grid, shape (K + 1,).
            trained: numbers of the trained steps.
            seed: seed of the run.
            step: number of the iteration.
            num_anchors: number of anchors in the whole iteration, above all sample ids.
            device: where the model is.
        """
        num_rows = len(trained) if objective.data_per_step == "all" else 1
        # One table for the iteration, so that a sample's draws do not depend on the batch.
        table = torch.rand((num_anchors, 2, num_rows), generator=generator(seed, "anchor", step))
        table = table[anchor.sample_id.cpu()]
        drawn = draw_times(
            times,
            tuple(trained),
            table[:, 0],
            law=objective.data_times,
            per_sample=objective.data_per_step,
        )
        shape = (len(anchor), num_rows)
        noise = SampleNoise(
            anchor.x0.shape[1:],
            num_steps=num_rows,
            run_seed=seed,
            purpose="anchor",
            step=step,
            sample_ids=anchor.sample_id.tolist(),
        )
        return cls(
            time=drawn.time.reshape(shape).to(device),
            step=drawn.step.reshape(shape).to(device),
            weight=drawn.weight.reshape(shape).to(device),
            dropped=table[:, 1] < objective.condition_dropout,
            _noise=noise,
            _device=torch.device(device),
        )

    def noise(self, rows: slice, columns: slice) -> Tensor:
        """Draw the noise of these rows' next columns, shape (columns * rows, ...), step-major."""
        pin = self._device.type == "cuda"
        drawn = self._noise.draw(rows, columns, pin_memory=pin)
        return step_major(drawn.to(self._device, non_blocking=pin))


def step_major(x: Tensor) -> Tensor:
    """Flatten (samples, steps, ...) to (steps * samples, ...)."""
    return x.transpose(0, 1).flatten(0, 1)
