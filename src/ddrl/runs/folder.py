"""The folder of a run: where its files are, and what they say without any weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddrl.disk import read_document, read_json
from ddrl.errors import UsageError
from ddrl.recipe import Recipe, read_finished


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its files.

    Attributes:
        path: the folder, ``run.folder`` of the recipe.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe with every key written out."""
        return self.path / "recipe.toml"

    @property
    def info(self) -> Path:
        """What the run was started with: versions, commit, hardware."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """JSON objects, one per iteration and one per audit."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One folder per checkpoint."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.path / "tensorboard"

    @property
    def shown(self) -> Path:
        """A few small pictures of the newest samples, see :mod:`ddrl.training.logs.shown`."""
        return self.path / "shown"

    @property
    def stopped(self) -> Path:
        """Why the guard stopped the run, if it did."""
        return self.path / "stopped.json"

    @property
    def lock(self) -> Path:
        """Held by the process that trains."""
        return self.path / "lock"


def read_recipe(run: RunFolder, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a run's folder.

    Args:
        run: the folder.
        overrides: ``section.key=value`` of what is not part of the model.

    Raises:
        UsageError: there is none, it can't be read, or an override is of what was trained.
        RecipeError: it is not a recipe, or an override is none.
    """
    try:
        text = read_document(run.recipe)
    except (OSError, UnicodeDecodeError) as error:
        found = "is not there" if not run.path.exists() else "has no readable recipe.toml"
        raise UsageError(
            f"{run.path} is not the folder of a run: it {found}.",
            hint="name a run.folder that `ddrl train` has written",
        ) from error
    return read_finished(text, origin=str(run.recipe), overrides=overrides)


def read_info(run: RunFolder) -> Mapping[str, Any]:
    """What ``run.json`` says; nothing depends on it, so that a run without it is still a run."""
    try:
        info: object = read_json(run.info)
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}
