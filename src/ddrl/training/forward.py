"""The one way from latents to velocities, for rollout, replay, reference and data term."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ddrl.models.base import DiffusionModel
from ddrl.records import Condition


@dataclass(frozen=True)
class Forward:
    """A model with the settings under which it is evaluated.

    Attributes:
        model: the model.
        guidance: w of v = v_empty + w (v_condition - v_empty), in rollout and policy term alike;
            1 is off and costs nothing. The data term never uses guidance.
        autocast: dtype of the matrix products, or None for float32 throughout.
    """

    model: DiffusionModel
    guidance: float = 1.0
    autocast: torch.dtype | None = None

    @cached_property
    def empty(self) -> Condition:
        """The encoded empty text, one row; encoded once, on the model's device at that time."""
        with torch.no_grad():
            return self.model.encode([""])

    def plain(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Return the velocity without guidance, float32, shape of ``x_t``."""
        if self.autocast is None:
            return self.model.predict(x_t.float(), t, condition).float()
        with torch.autocast(x_t.device.type, dtype=self.autocast):
            return self.model.predict(x_t.float(), t, condition).float()

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Return the policy's velocity, float32, shape of ``x_t``.

        The unconditional branch is never in the autograd graph, which halves the memory: the guided
        policy is trained through its conditional branch.
        """
        velocity = self.plain(x_t, t, condition)
        if self.guidance == 1.0:
            return velocity
        with torch.no_grad():
            everywhere = torch.ones(len(x_t), dtype=torch.bool)  # on the CPU, which knows lengths
            nothing = condition.where(everywhere, self.empty)
            unconditional = self.plain(x_t, t, nothing)
        return unconditional + self.guidance * (velocity - unconditional)
