"""The samples that a recipe names: found, or to be streamed, and not decoded yet."""

from __future__ import annotations

import logging
from pathlib import Path

from ddrl.data.layouts.columns import Columns
from ddrl.data.layouts.files import find_samples, usable
from ddrl.data.layouts.hub import HubStream
from ddrl.data.layouts.pinned import pin
from ddrl.data.samples import Sample
from ddrl.recipe import Recipe

logger = logging.getLogger(__name__)


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
        columns=_columns(recipe),
    )
    return usable(found, on_broken=section.on_broken)


def hub_folder(recipe: Recipe) -> Path:
    """Where what is known of sets of the hub is kept."""
    return Path(recipe.run.cache) / "hub"


def hub_stream(recipe: Recipe) -> tuple[HubStream, list[object]]:
    """The recipe's set of the hub, and all that its samples depend on, as JSON.

    Raises:
        DataError: there is no such set, or the hub can't be reached and was never asked before.
    """
    section = recipe.data
    source = pin(section.path, refs=hub_folder(recipe) / "refs")
    logger.info("the data are %s, revision %s", source.name, source.revision)
    columns = _columns(recipe)
    stream = HubStream(source, section.config, section.split, columns, section.outside)
    name = "" if source.is_local else source.name  # a folder that has moved is the same set
    key = [name, source.revision, section.config, section.split, section.outside]
    sources = [columns.source] if columns.has_sources else []
    return stream, [*key, columns.caption, columns.media, *sources]


def _columns(recipe: Recipe) -> Columns:
    section = recipe.data
    return Columns(
        section.caption_column,
        section.media_column,
        section.source_column,
        has_sources=bool(section.source_images),
    )
