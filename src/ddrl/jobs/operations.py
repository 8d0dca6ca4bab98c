"""How many operations an iteration has, and how long they take at the rate that was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from ddrl.builders.device import pick_device
from ddrl.builders.sampler import build_forward
from ddrl.builders.tasks.table import task_of
from ddrl.errors import DDRLError
from ddrl.jobs.machine import Machine
from ddrl.jobs.plan import check_recipe
from ddrl.jobs.tracing import traceable
from ddrl.recipe import Plan, Recipe


def _forward(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401
    return int(sdpa_flop_count(q, k, v))  # type: ignore[no-untyped-call]


def _backward(grad: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401
    return int(sdpa_backward_flop_count(grad, q, k, v))  # type: ignore[no-untyped-call]


def count_operations(recipe: Recipe) -> tuple[int, int]:
    """Floating-point operations of one sample's forward pass, and of forward with backward.

    Those of matrix products, convolutions and attention, counted on tensors without values.

    Raises:
        DDRLError: as :func:`~ddrl.jobs.plan.check_recipe`; the family can't be traced.
    """
    model, shape = check_recipe(recipe)
    forward = build_forward(recipe, model)
    aten = torch.ops.aten
    attention = {
        aten._scaled_dot_product_flash_attention_for_cpu: _forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
    }
    counts = []
    with traceable(task_of(recipe), model, shape) as condition:
        for has_gradient in (False, True):
            with FlopCounterMode(display=False, custom_mapping=attention) as counter:
                with torch.set_grad_enabled(has_gradient):
                    x, t = torch.zeros(1, *shape), torch.full((1,), 0.5)
                    velocity = forward.plain(x, t, condition(1))
                if has_gradient:
                    torch.autograd.backward(velocity.square().sum())
            counts.append(int(counter.get_total_flops()))
    return counts[0], counts[1]


def operations_of_iteration(plan: Plan, forward: int, both: int) -> int:
    """Operations of all passes of an iteration.

    Args:
        plan: of the run.
        forward: operations of one sample's forward pass.
        both: of forward with backward.
    """
    passes = plan.passes
    return forward * (passes.rollout + passes.reference) + both * (passes.policy + passes.data)


def time_lines(plan: Plan) -> list[str]:
    """What an iteration takes at least; no lines where this machine was not measured.

    Rewards, decoding, copies and elementwise work come on top.
    """
    recipe = plan.recipe
    try:
        device = pick_device(recipe)
        machine = Machine.find(Path(recipe.run.cache), device)
        if machine is None:
            return []
        precision: str = recipe.run.precision
        if precision == "float32" and recipe.run.float32_matmul == "high":
            precision = "tf32" if "tf32" in machine.matrix else "float32"
        rate = machine.matrix[precision]
        total = operations_of_iteration(plan, *count_operations(recipe))
    except (DDRLError, RuntimeError, KeyError):  # another machine's plan, or it can't be traced
        return []
    return [
        "",
        "time, estimated",
        f"  an iteration takes {total / rate:.3g} s or more: {total / 1e12:.3g} TFLOP of the "
        f"network at {rate / 1e12:.3g} TFLOP/s, the rate",
        f"  of a matrix product in {precision} that `ddrl doctor` measured here. Rewards, "
        "decoding, copies and elementwise work come on top.",
    ]
