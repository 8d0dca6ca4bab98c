"""Two networks that share the time axis, as one network: Wan2.2 A14B."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn


class WanExperts(nn.Module):
    """Wan's two experts: one for the noisy times, one for the others.

    Both are submodules under the names that the pipeline gives them. The optimizer, EMA, LoRA and
    checkpoints see both, with parameters ``transformer.*`` and ``transformer_2.*``. To train one
    expert alone, freeze the other.

    Each row of a batch is computed by the expert of its time, so a batch may mix times. Which rows
    those are has to be known on the host: one transfer per call.

    Args:
        transformer: expert of timesteps from the boundary on.
        transformer_2: expert of timesteps below the boundary.
        boundary: boundary in timesteps, 0 to 1000.
    """

    def __init__(
        self, transformer: nn.Module, transformer_2: nn.Module, *, boundary: float
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.transformer_2 = transformer_2
        self.boundary = boundary

    @property
    def config(self) -> Any:  # noqa: ANN401 - diffusers is untyped
        """Config of the first expert; they differ in their weights only."""
        return self.transformer.config

    def forward(self, *, timestep: Tensor, **inputs: Any) -> tuple[Tensor]:  # noqa: ANN401
        """Return what the pipeline's expert would return for each row.

        Args:
            timestep: timesteps, 0 to 1000, shape (B,).
            inputs: inputs of the experts; tensors have B rows.
        """
        noisy = (timestep >= self.boundary).cpu()
        if bool(noisy.all()) or not bool(noisy.any()):
            expert = self.transformer if bool(noisy.all()) else self.transformer_2
            return cast(tuple[Tensor], expert(timestep=timestep, **inputs))
        outputs, order = [], []
        for expert, chosen in ((self.transformer, noisy), (self.transformer_2, ~noisy)):
            rows = chosen.nonzero().flatten().to(timestep.device)
            part = {k: v[rows] if isinstance(v, Tensor) else v for k, v in inputs.items()}
            outputs.append(expert(timestep=timestep[rows], **part)[0])
            order.append(rows)
        return (torch.cat(outputs)[torch.cat(order).argsort()],)

    def enable_gradient_checkpointing(self) -> None:
        """Keep no activations of the blocks for the backward pass."""
        self._both("enable_gradient_checkpointing")

    def disable_gradient_checkpointing(self) -> None:
        """Keep the activations of the blocks for the backward pass."""
        self._both("disable_gradient_checkpointing")

    def compile_repeated_blocks(self, **options: Any) -> None:  # noqa: ANN401 - torch.compile's
        """Compile the blocks of both experts."""
        self._both("compile_repeated_blocks", **options)

    def _both(self, method: str, **options: Any) -> None:  # noqa: ANN401
        for expert in (self.transformer, self.transformer_2):
            getattr(expert, method)(**options)
