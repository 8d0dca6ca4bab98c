"""``torch.compile`` for a network's blocks, in place."""

from __future__ import annotations

from weakref import WeakSet

from torch import nn

RECOMPILE_LIMIT = 64
"""Graphs per function: of each kind of block, with and without gradient, adapter and each shape.
PyTorch's own limit of 8 is soon passed, and it then goes on uncompiled."""


_compiled: WeakSet[nn.Module] = WeakSet()


def is_compiled(network: nn.Module) -> bool:
    """Return whether :func:`compile_blocks` has compiled a network."""
    return network in _compiled


def compile_blocks(network: nn.Module, *, backend: str = "inductor") -> int:
    """Compile the blocks that a network repeats, each with one graph for all of its kind.

    Names of parameters stay what they are, and so do checkpoints and exports. Call it after an
    adapter is added. Each shape is compiled by itself when it first comes. Its results then don't
    depend on the shapes before, and a resumed run is the straight run.

    Args:
        network: network to compile. Those of diffusers name their blocks; others' blocks are those
            in lists of modules (not single layers). One without blocks is compiled as a whole.
        backend: backend of ``torch.compile``; ``inductor`` needs a C++ compiler on the CPU.

    Returns:
        The number of modules compiled.
    """
    import torch._dynamo

    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, RECOMPILE_LIMIT)
    blocks = repeated_blocks(network)
    for block in blocks:
        block.compile(backend=backend, dynamic=False)
    _compiled.add(network)
    return len(blocks)


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks that a network repeats; the network itself where it has none."""
    kinds = {
        kind
        for module in network.modules()  # networks of several have them below the top
        for kind in getattr(module, "_repeated_blocks", None) or ()
    }
    named = [module for module in network.modules() if type(module).__name__ in kinds]
    lists = [child for child in network.children() if isinstance(child, nn.ModuleList)]
    listed = [block for blocks in lists for block in blocks if any(block.children())]
    return named or listed or [network]
