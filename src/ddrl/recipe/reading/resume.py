"""How two recipes differ, and which differences a resumed run may have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from ddrl.recipe.reading.toml import format_key, format_value
from ddrl.recipe.recipe import Recipe
from ddrl.recipe.rules.anchors import needs_synthetic

LAST_BITS: tuple[str, ...] = (
    "model.gradient_checkpointing",
    "model.attention",
    "model.offload",
    "model.vae_slicing",
    "model.compile",
    "reward.samples_per_call",
    "rollout.merge",
    "rollout.storage_device",
    "run.device",
    "run.micro_batch",
    "run.steps_per_pass",
    "run.threads",
)
"""Keys that change memory, time and place, and of the result no more than its last bits: where sums
are taken in another order."""

CHANGEABLE_ON_RESUME: tuple[str, ...] = (
    *LAST_BITS,
    "model.distilled",
    "run.steps",
    "run.folder",
    "run.cache",
    "run.checkpoint_every",
    "run.keep_checkpoints",
    "run.tensorboard",
    "run.wandb_project",
    "reward.timeout",
    "reward.retries",
    "reward.cache",
    "scoring.overlap",
    "evaluation.*",
    "guard.*",
)
"""Patterns of the keys that a resumed run may change: what is kept, watched and waited for, and
how it is computed, not what. Keys of a reward stand without its position."""


def difference(a: Recipe, b: Recipe, *, ignore: Sequence[str] = ()) -> list[str]:
    """Return one line per key in which two recipes differ: ``objective.beta: 1.0 -> 0.5``.

    Args:
        a: the recipe on the left of the arrow.
        b: the recipe on its right.
        ignore: patterns of keys to leave out, with or without positions in lists, such as
            ``CHANGEABLE_ON_RESUME``.
    """
    left, right = _flatten(a.model_dump()), _flatten(b.model_dump())
    keys = dict.fromkeys([*left, *right])
    return [
        f"{key}: {left.get(key, '(absent)')} -> {right.get(key, '(absent)')}"
        for key in keys
        if left.get(key) != right.get(key) and not _is_of(key, ignore)
    ]


def resume_conflicts(saved: Recipe, current: Recipe) -> list[str]:
    """Return the differences that forbid ``current`` to continue a run of ``saved``.

    ``run.steps`` may change, except with a cosine schedule, whose every step depends on it, and
    where the number of synthetic anchors follows it; and ``evaluation``, except for the solver
    where the anchors are its samples.
    """
    is_cosine = "cosine" in (saved.optimizer.schedule, current.optimizer.schedule)
    ignore = [key for key in CHANGEABLE_ON_RESUME if not (is_cosine and key == "run.steps")]
    found = difference(saved, current, ignore=ignore)
    synthetic = current.data.synthetic
    if needs_synthetic(current) and not synthetic.per_prompt and not is_cosine:
        found += [
            f"{line}, with data.synthetic.per_prompt = 0: run.steps sets the number of samples"
            for line in difference(saved, current)
            if line.startswith("run.steps:")
        ]
    if needs_synthetic(current) and synthetic.sampler == "ode":
        solver = ("evaluation.solver:", *(() if synthetic.steps else ("evaluation.steps:",)))
        found += [line for line in difference(saved, current) if line.startswith(solver)]
    return found


def bit_changes(saved: Recipe, current: Recipe) -> list[str]:
    """Return the differences after which a resumed run may differ in its last bits."""
    others = [
        key
        for key in _flatten(saved.model_dump()) | _flatten(current.model_dump())
        if not _is_of(key, LAST_BITS)
    ]
    return difference(saved, current, ignore=others)


def resume_rule(key: str) -> str:
    """Say whether a resumed run may change a key, given without positions in lists."""
    if key == "run.steps":
        return "may change, unless the learning rate or the synthetic data follow it"
    if _is_of(key, LAST_BITS):
        return "may change; the last bits of the result may differ"
    return "may change" if _is_of(key, CHANGEABLE_ON_RESUME) else "can't change: it is another run"


def _is_of(key: str, patterns: Sequence[str]) -> bool:
    """Return whether a key, with or without its positions in lists, fits one of the patterns."""
    names = (key, re.sub(r"\.\d+\.", ".", key))
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _flatten(value: object, prefix: str = "") -> dict[str, str]:
    """Return every leaf of a recipe by its dotted key, as TOML text."""
    if isinstance(value, dict):
        items = [(format_key(name), item) for name, item in value.items()]
    elif isinstance(value, tuple) and any(isinstance(item, dict) for item in value):
        items = [(str(position), item) for position, item in enumerate(value)]
    else:
        return {prefix: format_value(value)}
    return {
        key: text
        for name, item in items
        for key, text in _flatten(item, f"{prefix}.{name}" if prefix else name).items()
    }
