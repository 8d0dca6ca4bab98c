"""An exponential moving average of the trainable parameters, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ddrl.errors import CheckpointError

__all__ = ["EMA"]


class EMA:
    """Averages a network's trainable parameters in float32.

    Args:
        network: whose parameters with ``requires_grad`` are averaged.
        decay: in [0, 1); 0 follows the parameters exactly.
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self._parameters = {n: p for n, p in network.named_parameters() if p.requires_grad}
        self._average = {n: p.detach().float().clone() for n, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """average += (1 - decay) (parameter - average)."""
        torch._foreach_lerp_(
            list(self._average.values()),
            [p.detach().float() for p in self._parameters.values()],
            1 - self.decay,
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Have the network use the average inside the context."""
        kept = {n: p.detach().clone() for n, p in self._parameters.items()}
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._average[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(kept[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return self._average

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set the averages.

        Raises:
            CheckpointError: the names are not those of the network.
        """
        if state.keys() != self._average.keys():
            raise CheckpointError("The averaged weights are of another network.")
        for name, value in state.items():
            self._average[name].copy_(value)
