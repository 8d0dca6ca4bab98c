"""A finished run's recipe, read on another machine: what may be set again, and what may not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from ddrl.errors import UsageError
from ddrl.recipe.reading.keys import key_specs
from ddrl.recipe.reading.load import parse_recipe
from ddrl.recipe.reading.paths import expand_paths
from ddrl.recipe.recipe import Recipe

SET_ANEW: tuple[str, ...] = (
    *("model.path", "model.start", "model.offload", "model.compile"),
    *("model.attention", "model.vae_slicing"),
    *("data.path", "data.outside", "data.on_broken"),
    *("run.device", "run.cache", "run.precision", "run.micro_batch", "run.threads"),
    "run.float32_matmul",
    "evaluation.*",
    *("reward.options.*", "reward.timeout", "reward.retries"),
    *("reward.samples_per_call", "reward.cache"),
)
"""Patterns of the keys that say where a run's things lie, and how it is computed and measured."""


def read_finished(text: str, *, origin: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe of a run that is sampled, measured or exported.

    Args:
        text: TOML, as the run keeps it.
        origin: what error messages call it.
        overrides: ``section.key=value``.

    Raises:
        RecipeError: it is not a recipe, or an override names no key or has no such value.
        UsageError: an override would change what the model is, or how it was trained.
    """
    for override in overrides:
        written = override.partition("=")[0].strip()
        key = re.sub(r"\.\d+(?=\.)", "", written)
        is_known = key in key_specs() or re.match(r"(evaluation\.)?reward\.options\.", key)
        if is_known and not any(fnmatchcase(key, pattern) for pattern in SET_ANEW):
            raise UsageError(
                f'Override "{override}": {written} is part of what was trained, and the run is '
                "finished.",
                hint="what may be set for a finished run is " + ", ".join(SET_ANEW),
            )
    recipe = parse_recipe(text, origin=origin, overrides=overrides)
    if not overrides:
        return recipe
    if recipe.model.is_embedded and recipe.model.path:
        raise UsageError(
            f"model.path is {recipe.model.path}, but {origin} is of the embedded model, which has "
            "no path.",
            hint="leave it out; the embedded model is made again, or found in run.cache",
        )
    return expand_paths(recipe)
