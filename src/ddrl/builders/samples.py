"""The samples that a recipe names: found, and not decoded yet."""

from __future__ import annotations

from pathlib import Path

from ddrl.data.columns import Columns
from ddrl.data.files import find_samples, usable
from ddrl.data.prompts import read_prompts
from ddrl.data.samples import Sample
from ddrl.errors import DataError
from ddrl.recipe import Recipe

__all__ = ["check_path", "find_files"]


def check_path(recipe: Recipe) -> None:
    """Refuse a path that is not there; costs nothing, so that it comes before a model is loaded.

    Raises:
        DataError: ``data.path`` is missing, or holds no prompts although it should.
    """
    section = recipe.data
    if section.source == "prompts":
        read_prompts(Path(section.path), on_broken=section.on_broken)
    if section.source == "files" and not Path(section.path).exists():
        raise DataError(
            f"There is no data at {section.path}.",
            hint="set data.path to a folder of captioned media, or a file that lists them",
        )


def find_files(recipe: Recipe) -> tuple[Sample, ...]:
    """The samples of the recipe's files; nothing is decoded.

    Raises:
        DataError: there is none, or something is broken and the recipe says to stop.
    """
    section = recipe.data
    found = find_samples(
        Path(section.path),
        layout=section.layout,
        outside=section.outside,
        split=section.split,
        columns=Columns(section.caption_column, section.media_column),
    )
    return usable(found, on_broken=section.on_broken)
