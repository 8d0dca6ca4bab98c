"""An exponential moving average of the trainable parameters, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ddrl.errors import CheckpointError


def decay_at(update: int, *, decay: float, warmup: bool) -> float:
    """Return the decay of an update, from 1 on: min(decay, (1 + n) / (10 + n)) with a warm-up."""
    return min(decay, (1 + update) / (10 + update)) if warmup else decay


def share_followed(num_updates: int, *, decay: float, warmup: bool) -> float:
    """Return the share of a change at constant speed that the average has followed.

    Returns:
        In [0, 1]; near 1 where there were many more updates than the average is long.
    """
    average, count = 0.0, min(num_updates, round(_MANY / (1 - decay)))
    for update in range(1, count + 1):
        average += (1 - decay_at(update, decay=decay, warmup=warmup)) * (update - average)
    return average / count if count else 1.0


_MANY = 20  # lengths of the average, after which it has followed 95 % and the share only grows


class EMA:
    """Averages a network's trainable parameters in float32.

    Args:
        network: network whose parameters with ``requires_grad`` are averaged.
        decay: decay of an update, in [0, 1); 0 follows the parameters exactly.
        warmup: whether the average begins shorter, see :func:`decay_at`.

    Attributes:
        num_updates: number of updates so far; the warm-up depends on it.
    """

    def __init__(self, network: nn.Module, *, decay: float, warmup: bool = False) -> None:
        self.decay, self.warmup = decay, warmup
        self.num_updates = 0
        self._parameters = {n: p for n, p in network.named_parameters() if p.requires_grad}
        self._average = {n: p.detach().float().clone() for n, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """average += (1 - decay) (parameter - average)."""
        self.num_updates += 1
        torch._foreach_lerp_(
            list(self._average.values()),
            [p.detach().float() for p in self._parameters.values()],
            1 - decay_at(self.num_updates, decay=self.decay, warmup=self.warmup),
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
            raise CheckpointError(
                "The averaged weights are of another network.",
                hint="take the recipe and the base that the checkpoint was made with",
            )
        for name, value in state.items():
            self._average[name].copy_(value)
