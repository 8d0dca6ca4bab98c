"""A plan as plain text for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddrl.recipe.memory import Memory
    from ddrl.recipe.plan import Plan

__all__ = ["format_size", "plan_lines"]


def plan_lines(plan: Plan) -> list[str]:
    """Return the batch arithmetic, the weights of each step, and the memory."""
    return [*_batch_lines(plan), "", *_step_lines(plan), "", *_memory_lines(plan.memory)]


def _batch_lines(plan: Plan) -> list[str]:
    recipe, passes = plan.recipe, plan.passes
    rollout, objective = recipe.rollout, recipe.objective
    samples = (
        f"{rollout.prompts_per_step} prompts x {rollout.group_size} = {plan.num_samples} samples"
        if plan.num_samples
        else "none: no policy term"
    )
    data = f"{plan.num_data_samples} samples" if plan.num_data_samples else "none: no data term"
    rows = [
        ("rollout", samples),
        ("data", data),
        ("sampler", f"{rollout.kernel}, eta {rollout.eta:g}, {rollout.steps} steps"),
        ("trained steps", f"{len(plan.trained_steps)}: {_ranges(plan.trained_steps)}"),
        ("updates", f"{objective.updates_per_rollout} per rollout, {plan.num_updates} in the run"),
        ("passes, rollout", f"{passes.rollout:,}"),
        ("passes, policy", f"{passes.policy:,} with gradient"),
        ("passes, data", f"{passes.data:,} with gradient"),
        ("passes, reference", f"{passes.reference:,}"),
        ("cost", f"{passes.forward_equivalents:,} forward passes (a backward counts as two)"),
    ]
    return ["each training step", *(f"  {name:<20}{text}" for name, text in rows)]


def _step_lines(plan: Plan) -> list[str]:
    header = f"  {'step':>4}{'t':>8}{'s':>8}{'std':>10}{'W':>12}{'omega':>10}{'beta':>10}"
    lines = ["weights of the steps", header]
    for step in plan.steps:
        start = f"  {step.index:>4}{step.t:>8.3f}{step.s:>8.3f}{step.std:>10.4g}"
        weights = f"{step.kl_weight:>12.4g}{step.step_weight:>10.4g}{step.effective_beta:>10.4g}"
        lines.append(start + (weights if step.is_trained else f"{'-':>12}{'-':>10}{'-':>10}"))
    return [*lines, f"  {_beta_sentence(plan)}"]


def _beta_sentence(plan: Plan) -> str:
    objective, betas = plan.recipe.objective, plan.effective_beta
    if objective.policy == "none":
        return "data term alone: there is nothing for beta to weigh it against"
    if objective.regularizer == "none":
        return "no regularizer: nothing holds the policy near the data or the reference"
    low, high = min(betas), max(betas)
    if math.isclose(low, high, rel_tol=1e-6):
        spread = f"one effective beta, {low:.4g}"
    else:
        spread = f"effective beta differs between steps, {low:.4g} to {high:.4g}"
    note = "; in expectation, as data times are drawn"
    is_drawn = objective.regularizer == "data" and objective.data_times != "grid"
    return f"{spread}, in {plan.beta_unit}{note if is_drawn else ''}"


def _memory_lines(memory: Memory) -> list[str]:
    rows = [
        ("frozen weights", memory.frozen),
        ("trained weights", memory.trained),
        ("text encoders", memory.text_encoders),
        ("autoencoder", memory.vae),
        ("reference model", memory.reference),
        ("gradients", memory.gradients),
        ("AdamW moments", memory.moments),
        ("averaged weights", memory.ema),
        ("conditions", memory.conditions),
        ("held", memory.held),
        ("trajectory", memory.trajectory),
    ]
    lines = ["memory, in parts", *(_row(name, count) for name, count in rows if count)]
    if not memory.phases:
        return [*lines, "  activations are not counted: the passes of this model can't be traced"]
    lines += ["", "memory, at the peak of each phase"]
    lines += [_row(name, count) for name, count in memory.phases]
    name, count = memory.peak
    return [*lines, f"  the most is {format_size(count)}, in {name}"]


def _row(name: str, count: int) -> str:
    return f"  {name:<18}{format_size(count):>12}"


def format_size(num_bytes: int) -> str:
    """Bytes for people, in powers of 1024."""
    value = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"


def _ranges(steps: tuple[int, ...]) -> str:
    """``0-3, 6``: runs of consecutive steps."""
    runs: list[list[int]] = []
    for step in steps:
        if runs and step == runs[-1][-1] + 1:
            runs[-1].append(step)
        else:
            runs.append([step])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
