"""Texts of one length go through a network without their padding, and so without a mask.

A mask rules flash attention out. How long texts are is kept on the CPU, because asking the device
for it would wait for all passes before.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddrl.models.compiling import is_compiled


def lengths_of(mask: Tensor) -> Tensor:
    """Return how many tokens each text has, on the CPU; -1 where padding is not behind them alone.

    It waits for the device, once where texts are encoded.

    Args:
        mask: which tokens count, shape (B, L).
    """
    counts = mask.bool().sum(1)
    places = torch.arange(mask.shape[1], device=mask.device)
    is_behind = ((places < counts[:, None]) == mask.bool()).all(1)
    return torch.where(is_behind, counts, -1).cpu()


def without_padding(
    network: nn.Module, lengths: list[int], embeds: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Cut texts of one length to it, and leave the mask out; others stay as they are.

    A network whose blocks are compiled keeps padding and mask: each length would be compiled by
    itself.

    Args:
        network: the network that they are for.
        lengths: of :func:`lengths_of`, B of them.
        embeds: tokens, shape (B, L, D).
        mask: which of them count, shape (B, L).
    """
    length = lengths[0]
    if length < 1 or any(other != length for other in lengths) or is_compiled(network):
        return embeds, mask
    return embeds[:, :length], None
