"""Time grids, and which of their steps are stochastic and trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ddrl.errors import UsageError


def time_grid(num_steps: int, *, shift: float = 1.0) -> Float[Tensor, "K1"]:
    """Return times 1 = t_0 > ... > t_K = 0.

    A shift above 1 moves times towards noise: t -> shift t / (1 + (shift - 1) t).
    Source of the shift: arXiv 2403.03206, eq. (23).

    Args:
        num_steps: K, at least 1.
        shift: positive; 1 is the uniform grid.

    Returns:
        Shape (K + 1,), float64.
    """
    if num_steps < 1 or shift <= 0:
        raise UsageError(
            f"A time grid needs at least 1 step and a positive shift, not {num_steps} and {shift}."
        )
    uniform = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
    return shift * uniform / (1 + (shift - 1) * uniform)


def select_steps(steps: Literal["all"] | Sequence[int], allowed: Sequence[bool]) -> tuple[int, ...]:
    """Resolve ``"all"`` or explicit step numbers against the steps that are allowed.

    Args:
        steps: ``"all"`` for every allowed step, or step numbers.
        allowed: per step, whether it may be chosen (a trained step has to be stochastic).

    Returns:
        The chosen steps in ascending order.

    Raises:
        UsageError: a step is out of range or not allowed, or nothing is left.
    """
    if steps == "all":
        chosen = [step for step, is_allowed in enumerate(allowed) if is_allowed]
    else:
        chosen = sorted(set(steps))
        for step in chosen:
            if not 0 <= step < len(allowed):
                raise UsageError(f"Step {step} is not one of the {len(allowed)} steps 0 to K - 1.")
            if not allowed[step]:
                raise UsageError(
                    f"Step {step} is deterministic, so it has no log-probability to train.",
                    hint="train stochastic steps only; the last step of ddim and cps is not one",
                )
    if not chosen:
        raise UsageError(
            "No step of the sampler is stochastic, so there is nothing to train.",
            hint="choose a stochastic kernel, such as flow_sde, and eta above 0",
        )
    return tuple(chosen)
