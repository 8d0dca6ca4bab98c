"""Prompts alone as a task: what is held out, and what anchors, are samples of the base."""

from __future__ import annotations

from pathlib import Path

from ddrl.builders.data.corpus import Corpus
from ddrl.builders.data.prompts import prompts_corpus
from ddrl.builders.store import Progress
from ddrl.builders.tasks.pretrained import PretrainedTask
from ddrl.builders.tasks.task import Model
from ddrl.data.layouts.prompts import read_prompts
from ddrl.models.adapter.diffusers_model import DiffusersModel


class Prompts(PretrainedTask):
    """The texts at ``data.path``."""

    samples_base = True
    heldout_kind = "samples of the base model, for prompts that are held out"

    @property
    def is_here(self) -> bool:
        """Whether there is anything at the path."""
        return Path(self.recipe.data.path).exists()

    def check(self) -> None:
        """Refuse a file without prompts."""
        section = self.recipe.data
        read_prompts(Path(section.path), on_broken=section.on_broken)

    def corpus(self, model: Model, *, progress: Progress | None = None) -> Corpus:
        """The prompts, and samples of the base where a corpus has held-out data."""
        assert isinstance(model, DiffusersModel)
        return prompts_corpus(self.recipe, model, progress=progress)
