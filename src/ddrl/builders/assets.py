"""Data, base model and rewards of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ddrl.builders.data.corpus import Corpus
from ddrl.builders.pretrained import check_model_path, family_of
from ddrl.builders.scorers import build_scorer
from ddrl.builders.stages import check_starts
from ddrl.builders.store import Progress
from ddrl.builders.tasks.table import check_reward, task_of
from ddrl.builders.tasks.task import Model, Task
from ddrl.builders.verify import base_identity, check_base, check_data, identity_notes, resume_hint
from ddrl.recipe.recipe import Recipe
from ddrl.recipe.sections.rewards import HeldoutRewardSection, RewardSection
from ddrl.rewards.base import reward_class
from ddrl.rewards.card import RewardCard
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.training.manifest import Checkpoint


def check_named(recipe: Recipe, *, is_here: bool = True) -> None:
    """Find what a recipe names and can't be had, as far as that costs nothing.

    Args:
        recipe: which.
        is_here: whether to look for data and for packages of rewards, too: a plan may be made
            elsewhere than the run.

    Raises:
        DataError: the data, or what the run starts from, is missing.
        WeightsError: the model's folder is missing.
        UsageError: the family that it names can't be had.
        RewardError: a reward or its package is missing, or it is of other data.
    """
    task = task_of(recipe)
    sections: list[RewardSection | HeldoutRewardSection] = [*recipe.reward]
    for section in (*sections, *recipe.evaluation.reward):
        card = getattr(reward_class(section.name), "card", None)
        check_reward(task, section)
        if is_here and isinstance(card, RewardCard):
            card.require(section.name)
    check_model_path(recipe)
    family_of(recipe)
    if is_here:
        task.check()
        check_starts(recipe)


@dataclass(frozen=True)
class Assets:
    """What training and evaluation of a recipe share.

    Attributes:
        task: what the recipe is about.
        model: the base model, on the device; trained in place.
        corpus: the data.
        scorer: the rewards.
        base: hashes of the base's parts, as it was before any training.
    """

    task: Task
    model: Model
    corpus: Corpus
    scorer: Scorer
    base: Mapping[str, str]

    @classmethod
    def build(
        cls,
        recipe: Recipe,
        device: torch.device,
        *,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> Assets:
        """Make or find all of it.

        Args:
            recipe: what to make.
            device: where the model is to be.
            checkpoint: that training is to go on from, on the same base and the same data.
            progress: told of what is made.

        Raises:
            CheckpointError: base or data are other ones than the checkpoint's.
            DDRLError: of the kind that fits, for what can't be had.
        """
        check_named(recipe)
        task = task_of(recipe)
        scorer = build_scorer(task)
        model = task.model(device, progress=progress)
        base = base_identity(model, type(task))
        if checkpoint is not None:
            check_base(checkpoint, base, recipe, hint=resume_hint(recipe, "model.path"))
        corpus = task.corpus(model, progress=progress)
        if checkpoint is not None:
            check_data(checkpoint, corpus.rows, recipe, hint=resume_hint(recipe, "data.path"))
        return cls(task, model, corpus, scorer, base)

    @property
    def notes(self) -> dict[str, Any]:
        """What a checkpoint notes about base and data."""
        return identity_notes(self.base, self.corpus.rows)

    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of one sample of each size."""
        if len(self.corpus.sizes) == 1:
            return (tuple(self.corpus.train.x0.shape[1:]),)
        return tuple(self.model.latent_shape(*size) for size in self.corpus.sizes)
