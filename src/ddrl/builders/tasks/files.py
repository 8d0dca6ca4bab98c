"""Captioned media as a task: files here, or a set of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from ddrl.builders.data.corpus import Corpus, files_corpus
from ddrl.builders.store import Progress
from ddrl.builders.tasks.pretrained import PretrainedTask
from ddrl.builders.tasks.task import Model
from ddrl.data.layouts.pinned import check_name
from ddrl.errors import DataError
from ddrl.models.adapter.diffusers_model import DiffusersModel


class Files(PretrainedTask):
    """Captioned images or clips at ``data.path``."""

    @property
    def is_here(self) -> bool:
        """Whether there is anything at the path."""
        return Path(self.recipe.data.path).exists()

    def check(self) -> None:
        """Refuse a path that is not there."""
        if not self.is_here:
            raise DataError(
                f"There is no data at {self.recipe.data.path}.",
                hint="set data.path to a folder of captioned media, or a file that lists them",
            )

    def corpus(self, model: Model, *, progress: Progress | None = None) -> Corpus:
        """The media, encoded once and found again in the cache."""
        assert isinstance(model, DiffusersModel)
        return files_corpus(self.recipe, model, progress=progress)


class Hub(Files):
    """A set of the hub, streamed and never stored whole."""

    @property
    def is_here(self) -> bool:
        """It need not be here."""
        return True

    def check(self) -> None:
        """Refuse a path that names no set."""
        check_name(self.recipe.data.path)
