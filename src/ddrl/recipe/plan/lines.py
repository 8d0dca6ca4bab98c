"""A plan as plain text for the terminal."""

from __future__ import annotations

import math

from ddrl.recipe.plan.memory import Memory
from ddrl.recipe.plan.plan import Plan
from ddrl.recipe.recipe import Recipe
from ddrl.recipe.sizes import size_name


def plan_lines(plan: Plan) -> list[str]:
    """Return the batch arithmetic, the weights of each step, notes, and the memory."""
    parts = [*_batch_lines(plan), "", *_step_lines(plan), *_note_lines(plan.recipe)]
    return [*parts, "", *_memory_lines(plan.memory)]


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
        *([("sizes", _sizes(recipe))] if recipe.data.sizes[1:] else []),
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


def _sizes(recipe: Recipe) -> str:
    """Several sizes, and which of them the plan is of."""
    largest = size_name(max(recipe.data.shapes, key=math.prod))
    names = ", ".join(map(size_name, recipe.data.shapes))
    return f"{names}; a step has one; times and memory below are of {largest}"


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
    notes = [f"{spread}, in {plan.beta_unit}"]
    guidance = plan.recipe.rollout.guidance
    if objective.regularizer == "data" and guidance != 1:
        notes.append(
            f"it is objective.beta / {guidance:g}, as guidance multiplies the policy term's "
            "gradient and not the data term's"
        )
    if objective.regularizer == "data" and objective.data_times != "grid":
        notes.append("in expectation, as data times are drawn")
    return "; ".join(notes)


def _note_lines(recipe: Recipe) -> list[str]:
    """Return what is legal and does less than it says."""
    objective, updates = recipe.objective, recipe.objective.updates_per_rollout
    total = recipe.run.steps * updates
    notes = []
    if recipe.optimizer.warmup_steps >= total:
        notes.append(
            f"the learning rate still warms up at the end: optimizer.warmup_steps is "
            f"{recipe.optimizer.warmup_steps}, and the run has {total} updates"
        )
    if objective.policy == "reinforce" and updates > 1:
        notes.append(
            "objective.policy reinforce takes no account of the updates since the rollout, of "
            f"which there are up to {updates - 1}; grpo does"
        )
    if objective.drift_budget and objective.drift_budget_every > recipe.run.steps:
        notes.append(
            f"objective.drift_budget never corrects beta: its first correction is after "
            f"{objective.drift_budget_every} steps, and the run has {recipe.run.steps}"
        )
    if recipe.evaluation.every > recipe.run.steps:
        notes.append(
            f"nothing is evaluated while training: evaluation.every is {recipe.evaluation.every}, "
            f"and the run has {recipe.run.steps} steps"
        )
    return ["", "notes", *(f"  {note}" for note in notes)] if notes else []


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
