"""Rules on what stands for data: where it comes from, and which of it is synthetic."""

from __future__ import annotations

from collections.abc import Iterator

from ddrl.recipe.rules.conflict import Conflict
from ddrl.recipe.schema import Fields
from ddrl.recipe.sections.data import DataSection


def needs_data(recipe: Fields) -> bool:
    """Return whether training looks at data, as the data term and Z of ``tilt`` do."""
    objective = recipe.objective
    has_tilt = objective.advantage == "tilt" and objective.policy != "none"
    return objective.regularizer == "data" or has_tilt


def needs_synthetic(recipe: Fields) -> bool:
    """Return whether training looks at samples of the base model."""
    return recipe.data.anchor in {"synthetic", "mixed"} and needs_data(recipe)


def given_conflicts(recipe: Fields) -> Iterator[Conflict]:
    """Yield the conflicts of frames that are given; the model says later how many it takes."""
    data = recipe.data
    yield from _source_conflicts(data)
    if data.own_task:
        return  # which says itself what it can give
    if data.given_frames and data.source not in {"files", "hub", "moving_digits"}:
        yield Conflict(
            ("data.given_frames", "data.source"),
            f"data.given_frames is {data.given_frames}, but data.source {data.source} has no clips "
            "whose first frames could be given.",
            'leave data.given_frames out, or give clips with data.source = "files"',
        )
    elif data.given_frames and data.given_frames >= (least := min(f for *_, f in data.shapes)):
        yield Conflict(
            ("data.given_frames", "data.frames"),
            f"data.given_frames is {data.given_frames}, but clips have data.frames = "
            f"{least}, so nothing would be left to generate.",
            "set data.frames above data.given_frames, or leave data.given_frames out",
        )


def _source_conflicts(data: DataSection) -> Iterator[Conflict]:
    """Yield the conflicts of source images."""
    if data.source_column and not data.source_images:
        yield Conflict(
            ("data.source_column", "data.source_images"),
            f"data.source_column is {data.source_column}, but data.source_images is 0, so that no "
            "source image would be read.",
            "set data.source_images = 1 for a base that edits pictures, or leave "
            "data.source_column out",
        )
    if not data.source_images:
        return
    if data.source not in {"files", "hub"}:
        yield Conflict(
            ("data.source_images", "data.source"),
            f"data.source_images is {data.source_images}, but data.source {data.source} has no "
            "source images.",
            'leave data.source_images out, or give edits with data.source = "files"',
        )
    if data.given_frames:
        yield Conflict(
            ("data.source_images", "data.given_frames"),
            f"data.source_images is {data.source_images} and data.given_frames is "
            f"{data.given_frames}, but no model takes both.",
            "set one of them to 0",
        )
    if data.frames > 1:
        yield Conflict(
            ("data.source_images", "data.frames"),
            f"data.source_images is {data.source_images}, but data.frames is {data.frames}, and "
            "what is edited are pictures.",
            "set data.frames = 1, or leave data.source_images out",
        )


def anchor_conflicts(recipe: Fields) -> Iterator[Conflict]:
    """Yield the conflicts of ``[data]`` and of what is anchored to it."""
    data, rollout = recipe.data, recipe.rollout
    if data.source == "prompts" and data.anchor != "synthetic" and needs_data(recipe):
        yield Conflict(
            ("data.anchor", "data.source"),
            f"data.anchor is {data.anchor}, but data.source prompts has no media.",
            'set data.anchor = "synthetic", or give media with data.source = "files"',
        )
    anchors = data.anchors_per_group or rollout.group_size
    if data.anchor == "mixed" and recipe.objective.regularizer == "data" and anchors < 2:
        yield Conflict(
            ("data.anchor", "data.anchors_per_group", "rollout.group_size"),
            "data.anchor mixed needs two data samples per group, one of each kind, but there is "
            f"{anchors}.",
            "set data.anchors_per_group to 2 or more",
        )
    if data.anchor == "mixed" and recipe.objective.advantage == "tilt":
        yield Conflict(
            ("data.anchor", "objective.advantage"),
            "objective.advantage tilt takes Z from data of one kind, but data.anchor is mixed.",
            'set data.anchor = "paired" or "synthetic", or choose another advantage',
        )
    default = DataSection.model_fields["synthetic_share"].default
    if data.anchor != "mixed" and data.synthetic_share != default:
        yield Conflict(
            ("data.synthetic_share", "data.anchor"),
            f"data.synthetic_share is {data.synthetic_share}, but data.anchor is {data.anchor}.",
            'set data.anchor = "mixed", or leave data.synthetic_share out',
        )
    synthetic = data.synthetic
    if synthetic.keep < 1 and not any(reward.weight for reward in recipe.reward):
        yield Conflict(
            ("data.synthetic.keep", "reward.0.weight"),
            f"data.synthetic.keep is {synthetic.keep}, but every reward has weight 0, so no sample "
            "is better than another.",
            "give a reward a weight, or leave data.synthetic.keep out",
        )
    steps = synthetic.steps or rollout.steps
    if (
        synthetic.sampler == "sde"
        and rollout.stochastic_steps != "all"
        and steps != rollout.steps
        and needs_synthetic(recipe)
    ):
        yield Conflict(
            ("data.synthetic.steps", "rollout.stochastic_steps", "rollout.steps"),
            f"data.synthetic.steps is {steps}, but rollout.stochastic_steps names steps of "
            f"{rollout.steps}.",
            'set data.synthetic.steps to 0, or data.synthetic.sampler to "ode"',
        )
