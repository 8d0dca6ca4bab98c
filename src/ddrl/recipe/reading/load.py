"""From a TOML file and overrides to a Recipe; every fault names its file, line and key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ddrl.errors import RecipeError
from ddrl.recipe.reading.document import parse_document, read_text
from ddrl.recipe.reading.overrides import apply_override
from ddrl.recipe.reading.paths import expand_paths
from ddrl.recipe.reading.shipped import find_recipe
from ddrl.recipe.recipe import Recipe


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; ``~`` and variables in its paths are expanded as in a shell.

    Args:
        path: a TOML file, or the name of a recipe that comes with ddrl.
        overrides: ``section.key=value``, the later one wins.

    Raises:
        RecipeError: the file can't be read, is not a recipe that can be run, or has a path with a
            user or a variable that does not exist.
    """
    path = find_recipe(Path(path))
    return expand_paths(parse_recipe(read_text(path), origin=str(path), overrides=overrides))


def parse_recipe(text: str, *, origin: str = "recipe", overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from TOML text, such as the one that a run keeps with its checkpoints.

    Args:
        text: TOML.
        origin: what error messages call it; a file name.
        overrides: as for ``load_recipe``.

    Raises:
        RecipeError: it is not a recipe that can be run.
    """
    document = parse_document(text, origin=origin)
    if "variant" in document.tables:
        raise RecipeError(
            f"{origin} is a comparison, not one recipe.",
            hint=f"run it with `ddrl compare {origin}`",
        )
    overridden = {apply_override(document.tables, one): one for one in overrides}
    return replace(document, overrides=overridden).check(Recipe)
