"""Rules that tie several keys of a recipe together.

A field's own type and bounds are checked by its section. What is checked here are recipes that
read well and would silently do something else: a term that is off, an advantage that is always 0,
a step without a density.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddrl.recipe.steps import (
    ends_without_noise,
    is_deterministic,
    stochastic_steps,
    trained_steps,
)

if TYPE_CHECKING:
    from ddrl.recipe.schema import Recipe

__all__ = ["Conflict", "find_conflict"]


@dataclass(frozen=True)
class Conflict:
    """Keys whose values don't go together.

    Attributes:
        keys: the dotted keys at fault, the one to change first.
        message: one sentence without a final stop.
        hint: what to do about it.
    """

    keys: tuple[str, ...]
    message: str
    hint: str


def find_conflict(recipe: Recipe) -> Conflict | None:
    """Return the first conflict of a recipe, or None when it can be run."""
    rules = (
        _model_conflicts,
        _reward_conflicts,
        _kernel_conflicts,
        _step_conflicts,
        _objective_conflicts,
        _group_conflicts,
        _guard_conflicts,
    )
    return next((conflict for rule in rules for conflict in rule(recipe)), None)


def _model_conflicts(recipe: Recipe) -> Iterator[Conflict]:
    model = recipe.model
    if model.network == "dit" and model.width % model.heads:
        yield Conflict(
            ("model.width", "model.heads"),
            f"model.width {model.width} can't be divided among {model.heads} heads",
            "make model.width a multiple of model.heads",
        )
    is_diffusers, from_files = model.family == "diffusers", recipe.data.source == "files"
    if is_diffusers and not model.path:
        yield Conflict(
            ("model.path", "model.family"),
            "model.family is diffusers, but model.path is empty",
            "give the folder of a diffusers pipeline, or its id on the hub",
        )
    if is_diffusers != from_files:
        yield Conflict(
            ("data.source", "model.family"),
            f"model.family {model.family} can't be trained on data.source {recipe.data.source}",
            "tiny goes with digits, and diffusers with files",
        )
    if from_files and not recipe.data.path:
        yield Conflict(
            ("data.path", "data.source"),
            "data.source is files, but data.path is empty",
            "give a folder of media with captions beside them, or a .jsonl list",
        )
    if model.lora.rank and not is_diffusers:
        yield Conflict(
            ("model.lora.rank", "model.family"),
            "model.lora.rank is set, but the embedded model has no adapter",
            "leave it out, or train a diffusers model",
        )


def _reward_conflicts(recipe: Recipe) -> Iterator[Conflict]:
    has_weight = any(reward.weight != 0 for reward in recipe.reward)
    if recipe.objective.policy != "none" and not has_weight:
        yield Conflict(
            ("reward.0.weight",),
            "every reward has weight 0, so nothing would be optimised",
            'give a reward a weight, or set objective.policy = "none" to train on data alone',
        )


def _kernel_conflicts(recipe: Recipe) -> Iterator[Conflict]:
    rollout = recipe.rollout
    if rollout.kernel == "ode":
        yield Conflict(
            ("rollout.kernel",),
            "rollout.kernel ode adds no noise, so its steps have neither a log-probability nor "
            "a weight W_k",
            'choose "flow_sde", "dance_sde", "ddim" or "cps"; data-only training needs one too, '
            'and is the plain velocity loss with objective.step_weight = "velocity"',
        )
    elif is_deterministic(rollout):
        yield Conflict(
            ("rollout.eta", "rollout.kernel"),
            f"rollout.eta is 0, so kernel {rollout.kernel} adds no noise and no step is trained",
            "set rollout.eta above 0; 0.5 to 1 is the useful range",
        )
    elif ends_without_noise(rollout) and rollout.eta > 1:
        yield Conflict(
            ("rollout.eta", "rollout.kernel"),
            f"rollout.eta is {rollout.eta}, but kernel {rollout.kernel} takes at most 1",
            "set rollout.eta above 0 and up to 1, where 1 is all the noise there is",
        )


def _step_conflicts(recipe: Recipe) -> Iterator[Conflict]:
    rollout = recipe.rollout
    yield from _selection_conflicts("stochastic_steps", rollout.stochastic_steps, rollout.steps)
    yield from _selection_conflicts("trained_steps", rollout.trained_steps, rollout.steps)
    if rollout.trained_steps != "all":
        last = rollout.steps - 1
        if ends_without_noise(rollout) and last in rollout.trained_steps:
            yield Conflict(
                ("rollout.trained_steps", "rollout.kernel"),
                f"rollout.trained_steps names step {last}, the last one, which has no noise with "
                f"kernel {rollout.kernel}",
                f'leave step {last} out, or write "all", which leaves it out by itself',
            )
        available = stochastic_steps(rollout)
        missing = [step for step in rollout.trained_steps if step not in available]
        if missing:
            yield Conflict(
                ("rollout.trained_steps", "rollout.stochastic_steps"),
                f"rollout.trained_steps names step {missing[0]}, which is not in "
                "rollout.stochastic_steps and so has no log-probability",
                "train stochastic steps only, or add the step to rollout.stochastic_steps",
            )
    if not trained_steps(rollout):
        yield Conflict(
            ("rollout.stochastic_steps", "rollout.steps", "rollout.kernel"),
            "no step of the rollout has noise, so there is nothing to train",
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
        yield Conflict((key,), f"{key} is empty", 'write "all", or name at least one step')
    for position, step in enumerate(selection):
        if not 0 <= step < num_steps:
            yield Conflict(
                (key, "rollout.steps"),
                f"{key} names step {step}, but rollout.steps = {num_steps} has steps 0 to "
                f"{num_steps - 1}",
                "steps are counted from 0, the one that starts at pure noise",
            )
        if step in selection[:position]:
            yield Conflict((key,), f"{key} names step {step} twice", "name each step once")


def _objective_conflicts(recipe: Recipe) -> Iterator[Conflict]:
    objective = recipe.objective
    if objective.policy == "none" and objective.regularizer != "data":
        yield Conflict(
            ("objective.policy", "objective.regularizer"),
            "objective.policy none trains on data alone, but objective.regularizer is "
            f"{objective.regularizer}, so no term would be left that learns from data",
            'set objective.regularizer = "data", or choose the policy "grpo" or "reinforce"',
        )
    if objective.regularizer != "none" and objective.beta == 0:
        yield Conflict(
            ("objective.beta", "objective.regularizer"),
            f"objective.beta is 0, which switches the {objective.regularizer} regularizer off",
            'give beta a value above 0, or say so with objective.regularizer = "none"',
        )
    if objective.advantage == "tilt" and objective.policy != "none" and objective.beta == 0:
        yield Conflict(
            ("objective.beta", "objective.advantage"),
            "objective.advantage tilt divides the reward by objective.beta, which is 0",
            "give beta a value above 0, or choose another advantage",
        )
    if objective.kl_in_return and objective.regularizer != "reference":
        yield Conflict(
            ("objective.kl_in_return", "objective.regularizer"),
            "objective.kl_in_return charges for the KL to the reference, but "
            f"objective.regularizer is {objective.regularizer}",
            'set objective.regularizer = "reference", or leave kl_in_return out',
        )


def _group_conflicts(recipe: Recipe) -> Iterator[Conflict]:
    rollout, objective = recipe.rollout, recipe.objective
    updates, size = objective.updates_per_rollout, rollout.group_size
    if objective.policy != "none":
        if size == 1:
            yield Conflict(
                ("rollout.group_size", "objective.advantage"),
                f"rollout.group_size is 1, so the {objective.advantage} advantage, which compares "
                "the samples of a group, is always 0",
                "set rollout.group_size to 2 or more; 8 to 24 is usual",
            )
        if size % updates:
            yield Conflict(
                ("objective.updates_per_rollout", "rollout.group_size"),
                f"rollout.group_size {size} can't be split into "
                f"objective.updates_per_rollout = {updates} equal parts",
                "make rollout.group_size a multiple of objective.updates_per_rollout",
            )
    anchors = recipe.data.anchors_per_group or size
    if objective.regularizer == "data" and anchors % updates:
        yield Conflict(
            ("data.anchors_per_group", "objective.updates_per_rollout", "rollout.group_size"),
            f"the {anchors} data samples of a group can't be split into "
            f"objective.updates_per_rollout = {updates} equal parts",
            "make data.anchors_per_group a multiple of objective.updates_per_rollout, "
            "or 0 to follow rollout.group_size",
        )


def _guard_conflicts(recipe: Recipe) -> Iterator[Conflict]:
    every = recipe.evaluation.every
    if recipe.guard.max_drift and not 0 < every <= recipe.run.steps:
        yield Conflict(
            ("guard.max_drift", "evaluation.every"),
            f"guard.max_drift is {recipe.guard.max_drift}, but with evaluation.every = {every} the "
            f"held-out loss is never measured in {recipe.run.steps} steps",
            "set evaluation.every above 0 and up to run.steps, or guard.max_drift to 0",
        )
    limit = recipe.guard.max_ratio
    if 0 < limit <= 1:
        yield Conflict(
            ("guard.max_ratio",),
            f"guard.max_ratio is {limit}, but the ratio is 1 before any update, so every run "
            "would be stopped",
            "set it well above 1, or 0 to switch it off",
        )
