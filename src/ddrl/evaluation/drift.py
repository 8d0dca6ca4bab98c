"""Drift: how much the diffusion loss on held-out data has risen since the base.

A rise of more than 10 % is a strong sign of reward hacking. Source: arXiv 2512.04332.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddrl.objective.regularizer import velocity_error
from ddrl.records import Condition
from ddrl.seeding import sample_noise
from ddrl.training.forward import Forward
from ddrl.training.rollout import batches

__all__ = ["DriftMeter"]


class DriftMeter:
    """Measures the velocity loss of a model at fixed data, noise and times.

    Two models measured by the same meter differ by their weights alone, so that their paired
    difference has little noise.

    Args:
        x0: clean held-out latents, shape (N, ...).
        caption_id: the caption of each, shape (N,).
        seed: of noise.
        num_times: times per sample, stratified: the middles of as many equal parts of [0, 1].
        micro_batch: rows per forward pass.
    """

    def __init__(
        self,
        *,
        x0: Tensor,
        caption_id: Tensor,
        seed: int,
        num_times: int = 8,
        micro_batch: int = 1024,
    ) -> None:
        self._x0, self._caption_id, self._micro_batch = x0, caption_id, micro_batch
        self._times = (torch.arange(num_times) + 0.5).div(num_times).to(x0.device)
        self._noise = sample_noise(
            (num_times, *x0.shape[1:]),
            run_seed=seed,
            purpose="drift",
            step=0,
            sample_ids=range(len(x0)),
        ).to(x0.device)

    @torch.no_grad()
    def losses(self, forward: Forward, condition: Condition) -> Tensor:
        """Mean squared velocity error per dimension of every held-out sample.

        Args:
            forward: the model; guidance is left out, as in training.
            condition: one row per caption.

        Returns:
            Shape (N,), float32, on the CPU.
        """
        process = forward.model.process
        columns = []
        for index in range(len(self._times)):
            parts = []
            for rows in batches(len(self._x0), self._micro_batch):
                x0, noise = self._x0[rows], self._noise[rows, index]
                t = self._times[index].expand(len(x0))
                velocity = forward.plain(
                    process.add_noise(x0, noise, t), t, condition[self._caption_id[rows]]
                )
                target = process.velocity(x0, noise, t)
                parts.append(velocity_error(velocity, target, reduction="mean"))
            columns.append(torch.cat(parts))
        return torch.stack(columns).mean(0).cpu()
