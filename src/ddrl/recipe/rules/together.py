"""Rules that tie several keys of a recipe together.

A field's own type and bounds are checked by its section. What is checked here are recipes that
read well and would silently do something else: a term that is off, an advantage that is always 0,
a step without a density.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ddrl.recipe.rules.anchors import anchor_conflicts, given_conflicts
from ddrl.recipe.rules.conflict import Conflict
from ddrl.recipe.rules.embedded import clip_conflicts, word_conflicts
from ddrl.recipe.rules.sampler import sampler_conflicts
from ddrl.recipe.rules.scoring import scoring_conflicts
from ddrl.recipe.rules.sizes import size_conflicts
from ddrl.recipe.schema import Fields
from ddrl.recipe.sections.rewards import HeldoutRewardSection, RewardSection
from ddrl.recipe.sections.run import ObjectiveSection

EMBEDDED = ("digits", "moving_digits", "words")


def find_conflict(recipe: Fields) -> Conflict | None:
    """Return the first conflict of a recipe, or None when it can be run."""
    rules = (
        _model_conflicts,
        _reward_conflicts,
        scoring_conflicts,
        _reward_name_conflicts,
        _heldout_conflicts,
        _audit_conflicts,
        sampler_conflicts,
        _objective_conflicts,
        _group_conflicts,
        anchor_conflicts,
        given_conflicts,
        size_conflicts,
        clip_conflicts,
        word_conflicts,
        _guard_conflicts,
    )
    return next((conflict for rule in rules for conflict in rule(recipe)), None)


def _model_conflicts(recipe: Fields) -> Iterator[Conflict]:
    model = recipe.model
    if model.network == "dit" and model.width % model.heads:
        yield Conflict(
            ("model.width", "model.heads"),
            f"model.width {model.width} can't be divided among {model.heads} heads.",
            "make model.width a multiple of model.heads",
        )
    is_diffusers, is_own = not model.is_embedded, bool(recipe.data.own_task)
    is_outside = recipe.data.source not in EMBEDDED
    if is_diffusers and not model.path:
        yield Conflict(
            ("model.path", "model.family"),
            f"model.family is {model.family}, but model.path is empty.",
            "give the folder of a diffusers pipeline, or its id on the hub",
        )
    if is_diffusers != is_outside and not is_own:  # a task of one's own says itself what it takes
        yield Conflict(
            ("data.source", "model.family"),
            f"model.family {model.family} can't be trained on data.source {recipe.data.source}.",
            "tiny goes with digits, moving_digits or words; diffusers with files, hub or prompts",
        )
    if is_outside and not is_own and not recipe.data.path:
        yield Conflict(
            ("data.path", "data.source"),
            f"data.source is {recipe.data.source}, but data.path is empty.",
            {
                "files": "give a folder of media with captions beside them, or a .jsonl list",
                "hub": 'give "owner/name" of a data set on the hub, or a folder that holds one',
            }.get(recipe.data.source, "give a text file with a prompt a line, or a .jsonl list"),
        )
    for name in ("rank", "start"):
        if getattr(model.lora, name) and not is_diffusers:
            yield Conflict(
                (f"model.lora.{name}", "model.family"),
                f"model.lora.{name} is set, but the embedded model has no adapter.",
                "leave it out, or train a diffusers model",
            )
    if model.lora.start and model.lora.targets:
        yield Conflict(
            ("model.lora.targets", "model.lora.start"),
            "model.lora.targets is set, but the modules are those of model.lora.start.",
            "leave model.lora.targets out, or merge the adapter with `ddrl export --merged` and "
            "begin with another one",
        )
    if model.embedded_guidance and not is_diffusers:
        yield Conflict(
            ("model.embedded_guidance", "model.family"),
            "model.embedded_guidance is set, but the embedded model is told no guidance scale.",
            "leave it out; the guidance of two passes is rollout.guidance",
        )
    if model.lora.start and recipe.data.target == "teacher":
        yield Conflict(
            ("data.target", "model.lora.start"),
            "data.target teacher holds the policy to the model without its adapter, and "
            "model.lora.start begins with one.",
            "give the run as model.start, which makes its adapter part of the base",
        )


def _reward_conflicts(recipe: Fields) -> Iterator[Conflict]:
    has_weight = any(reward.weight != 0 for reward in recipe.reward)
    if recipe.objective.policy != "none" and not has_weight:
        yield Conflict(
            ("reward.0.weight",),
            "Every reward has weight 0, so nothing would be optimised.",
            'give a reward a weight, or set objective.policy = "none" to train on data alone',
        )


def _reward_name_conflicts(recipe: Fields) -> Iterator[Conflict]:
    sections: dict[str, Sequence[RewardSection | HeldoutRewardSection]] = {
        "reward": recipe.reward,
        "evaluation.reward": recipe.evaluation.reward,
    }
    for key, rewards in sections.items():
        titles = [reward.title for reward in rewards]
        for place, title in enumerate(titles):
            if title in titles[:place]:
                kind = "Reward" if key == "reward" else "Held-out reward"
                yield Conflict(
                    (f"{key}.{place}.name",),
                    f"{kind} {title} is in the recipe twice.",
                    "leave one out, or tell them apart by labels, such as "
                    f'label = "{title}-{place + 1}"',
                )


def _heldout_conflicts(recipe: Fields) -> Iterator[Conflict]:
    trained = [(reward.name, reward.options) for reward in recipe.reward if reward.weight]
    for place, reward in enumerate(recipe.evaluation.reward):
        if (reward.name, reward.options) in trained:
            yield Conflict(
                (f"evaluation.reward.{place}.name",),
                f"Reward {reward.name} is trained on, so it can't be held out.",
                "hold out another reward, or give it other options, such as other weights",
            )


def _audit_conflicts(recipe: Fields) -> Iterator[Conflict]:
    section = recipe.evaluation
    if section.panel_samples and section.every:
        return
    key = "panel_samples" if section.every else "every"
    for name, value, is_set in (
        ("stop_on_hack", "true", section.stop_on_hack),
        ("panel", "background", section.panel == "background"),
    ):
        if is_set:
            yield Conflict(
                (f"evaluation.{key}", f"evaluation.{name}"),
                f"evaluation.{name} is {value}, but evaluation.{key} is 0: nothing is audited.",
                f"set evaluation.{key}, such as {100 if section.every else 25}",
            )


def _objective_conflicts(recipe: Fields) -> Iterator[Conflict]:
    objective = recipe.objective
    if objective.policy == "none" and objective.regularizer != "data":
        yield Conflict(
            ("objective.policy", "objective.regularizer"),
            "objective.policy none trains on data alone, but objective.regularizer is "
            f"{objective.regularizer}, so no term would be left that learns from data.",
            'set objective.regularizer = "data", or choose the policy "grpo" or "reinforce"',
        )
    if objective.regularizer != "none" and objective.beta == 0:
        yield Conflict(
            ("objective.beta", "objective.regularizer"),
            f"objective.beta is 0, which switches the {objective.regularizer} regularizer off.",
            'give beta a value above 0, or say so with objective.regularizer = "none"',
        )
    if objective.advantage == "tilt" and objective.policy != "none" and objective.beta == 0:
        yield Conflict(
            ("objective.beta", "objective.advantage"),
            "objective.advantage tilt divides the reward by objective.beta, which is 0.",
            "give beta a value above 0, or choose another advantage",
        )
    if recipe.data.target == "teacher":
        yield from _teacher_conflicts(objective)
    yield from _budget_conflicts(objective)
    if objective.kl_in_return and objective.regularizer != "reference":
        yield Conflict(
            ("objective.kl_in_return", "objective.regularizer"),
            "objective.kl_in_return charges for the KL to the reference, but "
            f"objective.regularizer is {objective.regularizer}.",
            'set objective.regularizer = "reference", or leave kl_in_return out',
        )


def _budget_conflicts(objective: ObjectiveSection) -> Iterator[Conflict]:
    if objective.drift_budget and objective.regularizer == "none":
        yield Conflict(
            ("objective.drift_budget", "objective.regularizer"),
            "objective.drift_budget steers beta, but objective.regularizer is none, which has "
            "none.",
            'set objective.regularizer = "data", or leave drift_budget out',
        )
    if objective.drift_budget and objective.policy == "none":
        yield Conflict(
            ("objective.drift_budget", "objective.policy"),
            "objective.drift_budget weighs data against reward, but objective.policy is none.",
            "leave drift_budget out of supervised fine-tuning",
        )
    if objective.drift_budget and objective.advantage == "tilt":
        yield Conflict(
            ("objective.drift_budget", "objective.advantage"),
            "objective.advantage tilt depends on beta itself, which objective.drift_budget "
            "changes.",
            'choose the advantage "group", "global" or "center", or leave drift_budget out',
        )


def _teacher_conflicts(objective: ObjectiveSection) -> Iterator[Conflict]:
    if objective.regularizer != "data":
        yield Conflict(
            ("data.target", "objective.regularizer"),
            "data.target teacher is a target of the data term, but objective.regularizer is "
            f"{objective.regularizer}.",
            'set objective.regularizer = "data", or leave data.target out',
        )
    if objective.policy == "none":
        yield Conflict(
            ("data.target", "objective.policy"),
            "data.target teacher holds the policy to its start, and with objective.policy none "
            "there is nothing that moves it away, so the loss is 0 and stays 0.",
            'set data.target = "data", or choose the policy "grpo" or "reinforce"',
        )


def _group_conflicts(recipe: Fields) -> Iterator[Conflict]:
    rollout, objective = recipe.rollout, recipe.objective
    updates, size = objective.updates_per_rollout, rollout.group_size
    if objective.policy != "none":
        if size == 1:
            yield Conflict(
                ("rollout.group_size", "objective.advantage"),
                f"rollout.group_size is 1, so the {objective.advantage} advantage, which compares "
                "the samples of a group, is always 0.",
                "set rollout.group_size to 2 or more; 8 to 24 is usual",
            )
        if size % updates:
            yield Conflict(
                ("objective.updates_per_rollout", "rollout.group_size"),
                f"rollout.group_size {size} can't be split into "
                f"objective.updates_per_rollout = {updates} equal parts.",
                "make rollout.group_size a multiple of objective.updates_per_rollout",
            )
    anchors = recipe.data.anchors_per_group or size
    if objective.regularizer == "data" and anchors % updates:
        yield Conflict(
            ("data.anchors_per_group", "objective.updates_per_rollout", "rollout.group_size"),
            f"The {anchors} data samples of a group can't be split into "
            f"objective.updates_per_rollout = {updates} equal parts.",
            "make data.anchors_per_group a multiple of objective.updates_per_rollout, "
            "or 0 to follow rollout.group_size",
        )


def _guard_conflicts(recipe: Fields) -> Iterator[Conflict]:
    every = recipe.evaluation.every
    if recipe.guard.max_drift and not 0 < every <= recipe.run.steps:
        yield Conflict(
            ("guard.max_drift", "evaluation.every"),
            f"guard.max_drift is {recipe.guard.max_drift}, but with evaluation.every = {every} the "
            f"held-out loss is never measured in {recipe.run.steps} steps.",
            "set evaluation.every above 0 and up to run.steps, or guard.max_drift to 0",
        )
    low, high = recipe.guard.min_latent_std, recipe.guard.max_latent_std
    if high and low >= high:
        yield Conflict(
            ("guard.min_latent_std", "guard.max_latent_std"),
            f"guard.min_latent_std is {low}, but guard.max_latent_std is {high}, so every run "
            "would be stopped.",
            "set guard.min_latent_std below guard.max_latent_std, or one of them to 0",
        )
    limit = recipe.guard.max_ratio
    if 0 < limit <= 1:
        yield Conflict(
            ("guard.max_ratio",),
            f"guard.max_ratio is {limit}, but the ratio is 1 before any update, so every run "
            "would be stopped.",
            "set it well above 1, or 0 to switch it off",
        )
