"""Rules on the sampler: a kernel that has noise, and steps that have a density."""

from __future__ import annotations

from collections.abc import Iterator

from ddrl.recipe.rules.conflict import Conflict
from ddrl.recipe.schema import Fields
from ddrl.recipe.steps import (
    ends_without_noise,
    is_deterministic,
    stochastic_steps,
    trained_steps,
)


def sampler_conflicts(recipe: Fields) -> Iterator[Conflict]:
    """Yield the conflicts of guidance, those of the kernel, then those of its steps."""
    if recipe.rollout.guidance == 0:
        yield Conflict(
            ("rollout.guidance",),
            "rollout.guidance is 0, so samples do not depend on their prompts and the gradient of "
            "the policy term is 0.",
            "set rollout.guidance to 1 to sample without guidance, or above 1",
        )
    yield from _kernel_conflicts(recipe)
    yield from _step_conflicts(recipe)
    yield from _merge_conflicts(recipe)


def _merge_conflicts(recipe: Fields) -> Iterator[Conflict]:
    """Yield what is wrong where weights are to be made for each rollout."""
    model, hint = recipe.model, 'leave rollout.merge out, or set it to "never"'
    if recipe.rollout.merge != "always":
        return
    if recipe.objective.kl_in_return and model.lora.is_used:
        yield Conflict(
            ("rollout.merge", "objective.kl_in_return"),
            'rollout.merge is "always", but objective.kl_in_return asks for the velocity without '
            "the adapter at every step of the rollout.",
            hint,
        )
    elif model.is_embedded or not (model.lora.is_used or recipe.run.precision == "bfloat16"):
        yield Conflict(
            ("rollout.merge", "model.lora.rank", "run.precision"),
            'rollout.merge is "always", but there is nothing to merge: no adapter, and all weights '
            "have the type that they are computed in.",
            hint,
        )


def _kernel_conflicts(recipe: Fields) -> Iterator[Conflict]:
    rollout = recipe.rollout
    if rollout.kernel == "ode":
        yield Conflict(
            ("rollout.kernel",),
            "rollout.kernel ode adds no noise, so its steps have neither a log-probability nor "
            "a weight W_k.",
            'choose "flow_sde", "dance_sde", "ddim" or "cps"; data-only training needs one too, '
            'and is the plain velocity loss with objective.step_weight = "velocity"',
        )
    elif is_deterministic(rollout):
        yield Conflict(
            ("rollout.eta", "rollout.kernel"),
            f"rollout.eta is 0, so kernel {rollout.kernel} adds no noise and no step is trained.",
            "set rollout.eta above 0; 0.5 to 1 is the useful range",
        )
    elif ends_without_noise(rollout) and rollout.eta > 1:
        yield Conflict(
            ("rollout.eta", "rollout.kernel"),
            f"rollout.eta is {rollout.eta}, but kernel {rollout.kernel} takes at most 1.",
            "set rollout.eta above 0 and up to 1, where 1 is all the noise there is",
        )


def _step_conflicts(recipe: Fields) -> Iterator[Conflict]:
    rollout = recipe.rollout
    yield from _selection_conflicts("stochastic_steps", rollout.stochastic_steps, rollout.steps)
    yield from _selection_conflicts("trained_steps", rollout.trained_steps, rollout.steps)
    if rollout.trained_steps != "all":
        last = rollout.steps - 1
        if ends_without_noise(rollout) and last in rollout.trained_steps:
            yield Conflict(
                ("rollout.trained_steps", "rollout.kernel"),
                f"rollout.trained_steps names step {last}, the last one, which has no noise with "
                f"kernel {rollout.kernel}.",
                f'leave step {last} out, or write "all", which leaves it out by itself',
            )
        available = stochastic_steps(rollout)
        missing = [step for step in rollout.trained_steps if step not in available]
        if missing:
            yield Conflict(
                ("rollout.trained_steps", "rollout.stochastic_steps"),
                f"rollout.trained_steps names step {missing[0]}, which is not in "
                "rollout.stochastic_steps and so has no log-probability.",
                "train stochastic steps only, or add the step to rollout.stochastic_steps",
            )
    if not trained_steps(rollout):
        yield Conflict(
            ("rollout.stochastic_steps", "rollout.steps", "rollout.kernel"),
            "No step of the rollout has noise, so there is nothing to train.",
            f"with kernel {rollout.kernel} the last step has none: select an earlier one, or "
            "raise rollout.steps",
        )


def _selection_conflicts(
    name: str, selection: str | tuple[int, ...], num_steps: int
) -> Iterator[Conflict]:
    key = f"rollout.{name}"
    if isinstance(selection, str):
        return
    if not selection:
        yield Conflict((key,), f"{key} is empty.", 'write "all", or name at least one step')
    for position, step in enumerate(selection):
        if not 0 <= step < num_steps:
            yield Conflict(
                (key, "rollout.steps"),
                f"{key} names step {step}, but rollout.steps = {num_steps} has steps 0 to "
                f"{num_steps - 1}.",
                "steps are counted from 0, the one that starts at pure noise",
            )
        if step in selection[:position]:
            yield Conflict((key,), f"{key} names step {step} twice.", "name each step once")
