"""Randomness has names: a generator is made from (run seed, purpose, indices) by a stable hash.

Nothing here keeps state, so a resumed run draws what the straight run would have drawn, and a
sample's noise is the same for any micro-batch size and any number of processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["derive_seed", "generator", "permutation", "sample_noise"]


def derive_seed(run_seed: int, purpose: str, *indices: int) -> int:
    """Hash a run seed, a purpose and indices to one seed, the same on every machine.

    Args:
        run_seed: the seed of the run.
        purpose: what the numbers are for, for example ``"rollout"``.
        indices: what tells draws of one purpose apart, for example step and sample id.

    Returns:
        An integer in [0, 2^63).
    """
    name = "/".join([str(run_seed), purpose, *map(str, indices)])
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(run_seed: int, purpose: str, *indices: int) -> torch.Generator:
    """Return a CPU generator seeded by :func:`derive_seed`.

    It always lives on the CPU: a CUDA generator draws other numbers, and the same sample has to
    come out on every device.
    """
    return torch.Generator().manual_seed(derive_seed(run_seed, purpose, *indices))


def permutation(length: int, run_seed: int, purpose: str, *indices: int) -> Tensor:
    """Return a named random permutation of ``range(length)``, shape (length,), int64."""
    return torch.randperm(length, generator=generator(run_seed, purpose, *indices))


def sample_noise(
    shape: Sequence[int],
    *,
    run_seed: int,
    purpose: str,
    step: int,
    sample_ids: Sequence[int],
) -> Tensor:
    """Draw standard normal noise, one named generator per sample.

    Args:
        shape: the shape of one sample's noise.
        run_seed: the seed of the run.
        purpose: what the noise is for.
        step: the optimizer step (or any counter of the caller).
        sample_ids: one integer per sample; equal ids get equal noise.

    Returns:
        Noise on the CPU, float32, shape (len(sample_ids), *shape).
    """
    noise = torch.empty((len(sample_ids), *shape))
    rng = torch.Generator()
    # derive_seed(run_seed, purpose, step, sample_id), with what samples share hashed once.
    shared = hashlib.blake2b(f"{run_seed}/{purpose}/{step}/".encode(), digest_size=8)
    for row, sample_id in zip(noise.unbind(), sample_ids, strict=True):
        named = shared.copy()
        named.update(b"%d" % sample_id)
        row.normal_(generator=rng.manual_seed(int.from_bytes(named.digest(), "big") >> 1))
    return noise
