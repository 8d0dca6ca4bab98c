"""Drift: how much the diffusion loss on held-out data has risen since the base.

A rise of more than 10 % is a strong sign of reward hacking. Source: arXiv 2512.04332.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ddrl.objective.regularizer import velocity_error
from ddrl.records import ConditionRows, LatentRows
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
        caption_id: the caption of each, shape (N,), on the CPU.
        seed: of noise.
        num_times: times per sample, stratified: the middles of as many equal parts of [0, 1].
        micro_batch: rows per forward pass.
        device: where the model is.
    """

    def __init__(
        self,
        *,
        x0: LatentRows,
        caption_id: Tensor,
        seed: int,
        num_times: int = 8,
        micro_batch: int = 1024,
        device: torch.device | str = "cpu",
    ) -> None:
        self._x0, self._caption_id, self._micro_batch = x0, caption_id, micro_batch
        self._seed, self._device = seed, device
        self._times = (torch.arange(num_times) + 0.5).div(num_times).to(device)

    @torch.no_grad()
    def losses(self, forward: Forward, condition: ConditionRows) -> Tensor:
        """Mean squared velocity error per dimension of every held-out sample.

        Only the rows of one pass are in memory at a time.

        Args:
            forward: the model; guidance is left out, as in training.
            condition: one row per caption.

        Returns:
            Shape (N,), float32, on the CPU.
        """
        process = forward.model.process
        parts = []
        for rows in batches(len(self._x0), self._micro_batch):
            x0 = self._x0[rows].to(self._device)
            of_rows = condition[self._caption_id[rows]].to(self._device)
            noise = self._noise(rows)
            columns = []
            for index in range(len(self._times)):
                t = self._times[index].expand(len(x0))
                eps = noise[:, index]
                velocity = forward.plain(process.add_noise(x0, eps, t), t, of_rows)
                target = process.velocity(x0, eps, t)
                columns.append(velocity_error(velocity, target, reduction="mean"))
            parts.append(torch.stack(columns))
        return torch.cat(parts, dim=1).mean(0).cpu()

    def _noise(self, rows: slice) -> Tensor:
        """Of some rows at all times: named by the row, so that it is the same in any pass."""
        return sample_noise(
            (len(self._times), *self._x0.shape[1:]),
            run_seed=self._seed,
            purpose="drift",
            step=0,
            sample_ids=range(rows.start, rows.stop),
        ).to(self._device)
