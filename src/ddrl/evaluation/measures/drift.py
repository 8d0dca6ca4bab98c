"""Drift: how much the diffusion loss on held-out data has risen since the base.

A rise of more than 10 % is a strong sign of reward hacking. Source: arXiv 2512.04332.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddrl.objective.regularizer import velocity_error
from ddrl.records import ConditionRows, LatentRows
from ddrl.seeding import sample_noise
from ddrl.training.forward import Forward
from ddrl.training.rollout import rows_by_size


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
        size_id: the size of each, shape (N,), where there are several: one pass is of one size.
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
        size_id: Tensor | None = None,
    ) -> None:
        self._size_id = torch.zeros(len(x0), dtype=torch.int64) if size_id is None else size_id
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
        losses = torch.empty((len(self._times), len(self._x0)), device=self._device)
        for rows in rows_by_size(self._size_id, self._micro_batch):
            x0 = self._x0[rows].to(self._device)
            of_rows = condition[self._caption_id[rows]].to(self._device)
            noise = self._noise(rows, x0.shape[1:])
            columns = []
            for index in range(len(self._times)):
                t = self._times[index].expand(len(x0))
                eps = noise[:, index]
                velocity = forward.plain(process.add_noise(x0, eps, t), t, of_rows)
                target = process.velocity(x0, eps, t)
                columns.append(velocity_error(velocity, target, reduction="mean"))
            losses[:, rows.to(self._device)] = torch.stack(columns)
        return losses.mean(0).cpu()

    def _noise(self, rows: Tensor, shape: Sequence[int]) -> Tensor:
        """Of some rows at all times: named by the row, so that it is the same in any pass."""
        return sample_noise(
            (len(self._times), *shape),
            run_seed=self._seed,
            purpose="drift",
            step=0,
            sample_ids=rows.tolist(),
        ).to(self._device)
