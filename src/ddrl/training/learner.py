"""Gradients to optimizer steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddrl.models.ema import EMA
from ddrl.objective.loss import Objective
from ddrl.training.forward import Forward
from ddrl.training.minibatch import Minibatch
from ddrl.training.safety.guard import Guard
from ddrl.training.update import Gradient


@dataclass
class Learner:
    """Changes the weights of the policy.

    Attributes:
        gradients: the gradient of eq. (L1) for each size of samples.
        optimizer: optimizer of the trainable parameters.
        scheduler: schedule of the learning rate, stepped with the optimizer.
        ema: averaged weights; the trainer updates them after every step.
        grad_clip: largest gradient norm; 0 leaves gradients alone.
        guard: limits past which no step is taken.
    """

    gradients: Sequence[Gradient]
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    ema: EMA
    grad_clip: float = 0.0
    guard: Guard = field(default_factory=Guard)

    def __post_init__(self) -> None:
        network = self.forward.model.transformer
        self._parameters = [p for p in network.parameters() if p.requires_grad]

    @property
    def forward(self) -> Forward:
        """The policy."""
        return self.gradients[0].forward

    @property
    def objective(self) -> Objective:
        """The loss."""
        return self.gradients[0].objective

    @property
    def reference(self) -> Forward | None:
        """The frozen start, where the loss compares with it."""
        return self.gradients[0].reference

    def set_beta(self, beta: float) -> None:
        """Give the regularizer another strength from the next iteration on."""
        for gradient in self.gradients:
            gradient.set_beta(beta)

    def update(self, batch: Minibatch, *, size: int, step: int) -> dict[str, float]:
        """Take one optimizer step. Everything is read from the device once, before the step.

        Args:
            batch: what to learn from.
            size: number of the samples' size.
            step: iterations finished.

        Returns:
            Metrics of the update.

        Raises:
            GuardStop: the gradient or a ratio is past a limit; the weights are as they were.
        """
        gradient = self.gradients[size]
        self.optimizer.zero_grad(set_to_none=True)
        tensors: dict[str, Tensor] = {}
        if batch.trajectory is not None and batch.advantages is not None:
            tensors |= gradient.policy(
                batch.trajectory,
                batch.advantages,
                correction=batch.correction,
                is_first=batch.is_first,
            )
        if batch.anchor is not None:
            tensors |= gradient.data(batch.anchor, step=step, num_anchors=batch.num_anchors)
        norm = torch.nn.utils.get_total_norm(
            [p.grad for p in self._parameters if p.grad is not None]
        )
        tensors["grad_norm"] = norm
        metrics = dict(zip(tensors, torch.stack(list(tensors.values())).tolist(), strict=True))
        metrics["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        if len(self.gradients) > 1:
            metrics["size"] = float(size)
        self.guard.check(metrics, step=step + 1)  # iterations are counted from 1 outside
        if self.grad_clip:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.grad_clip, norm)
        self.optimizer.step()
        self.scheduler.step()
        return metrics
