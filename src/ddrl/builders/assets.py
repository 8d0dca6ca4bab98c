"""Data, base model, rewards and judge of a recipe."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ddrl.builders.data.corpus import Corpus
from ddrl.builders.data.source import build_corpus, check_path
from ddrl.builders.pretrained import build_pretrained, check_model_path, family_of
from ddrl.builders.scorers import build_scorer
from ddrl.builders.stages import check_starts, start_from
from ddrl.builders.store import Progress, fingerprint, make_once
from ddrl.builders.tasks.embedded import check_embedded, load_splits
from ddrl.builders.verify import base_identity, check_base, check_data, identity_notes, resume_hint
from ddrl.data.embedded.digits import DigitSplits
from ddrl.data.embedded.sources import CaptionedMedia
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.compiling import compile_blocks
from ddrl.models.tiny.config import TinyConfig
from ddrl.models.tiny.model import TinyCondition, TinyModel
from ddrl.models.tiny.spelling import pieces, vocabulary_of
from ddrl.models.tiny.text_networks import TextDiT
from ddrl.recipe.recipe import Recipe
from ddrl.recipe.sections.rewards import HeldoutRewardSection, RewardSection
from ddrl.records import Condition
from ddrl.rewards.base import reward_class
from ddrl.rewards.card import RewardCard
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.training.manifest import Checkpoint
from ddrl.training.pretrain import PretrainSettings, pretrain

logger = logging.getLogger(__name__)

# Part of every cache key: raise it when the making of a cached thing changes.
CACHE_VERSION = 1
CLIPS_VERSION = 2  # the same, of the base of clips


def tiny_config(recipe: Recipe, data: CaptionedMedia) -> TinyConfig:
    """The architecture of the embedded base model."""
    section = recipe.model
    is_video, spells = data.media.ndim == 5, recipe.data.source == "words"
    vocabulary = data.captions
    if is_video:
        vocabulary = tuple(sorted({word for text in data.captions for word in text.split()}))
    return TinyConfig(
        vocabulary=vocabulary_of(data.captions) if spells else vocabulary,
        height=data.media.shape[-2],
        columns=data.media.shape[-1],
        network=section.network,
        width=section.width,
        depth=section.depth,
        heads=section.heads,
        patch=section.patch,
        frames=data.media.shape[1] if is_video else 1,
        patch_frames=section.patch_frames if is_video else 1,
        given_frames=recipe.data.given_frames,
        channels=3 if spells else 1,
        text_length=max(len(pieces(text)) for text in data.captions) if spells else 0,
    )


def build_tiny(
    recipe: Recipe,
    data: CaptionedMedia,
    *,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> TinyModel:
    """The embedded base model, on the CPU: from the cache, or pretrained now by flow matching.

    Args:
        recipe: whose model.
        data: that it is pretrained on.
        device: where it is pretrained; None: on the CPU.
        progress: called as it is pretrained.
    """
    section, config = recipe.model, tiny_config(recipe, data)

    def make(folder: Path) -> None:
        logger.info("pretraining the base model (%d steps)", section.pretrain.steps)
        model = TinyModel(config, seed=section.pretrain.seed)
        model.transformer.to(device)
        settings = PretrainSettings(**section.pretrain.model_dump())
        x0, condition = model.encode_media(data.media), model.encode(data.captions)
        if isinstance(model.transformer, TextDiT):
            text = condition.label[data.caption_id]
            model.transformer.measure(x0.to(text.device), text, seed=section.pretrain.seed)
        pretrain(
            model,
            x0,
            condition,
            data.caption_id,
            settings=settings,
            complete=_give_frames(model, data) if config.given_frames else None,
            progress=None
            if progress is None
            else lambda step, loss: progress("base", step, settings.steps, f"loss {loss:.3f}"),
        )
        model.save(folder)

    defaults = asdict(TinyConfig((), 1, 1))
    # Keys that came later change nothing while they are at their defaults.
    shape = {
        name: value
        for name, value in asdict(config).items()
        if name not in {"frames", "patch_frames", "given_frames", "text_length"}
        or value != defaults[name]
    }
    version = CACHE_VERSION if config.frames == 1 else CLIPS_VERSION
    key = [version, shape, section.pretrain.model_dump(), fingerprint(data)]
    folder, made = make_once(Path(recipe.run.cache), "base", key, make)
    if not made:
        logger.info("base model from %s", folder)
    return TinyModel.load(folder)


def _give_frames(
    model: TinyModel, data: CaptionedMedia
) -> Callable[[Condition, torch.Tensor], Condition]:
    """Adds to the condition of clips their own first frames."""
    count = model.config.given_frames

    def give(condition: Condition, rows: torch.Tensor) -> Condition:
        first = model.encode([""] * len(rows), first_frames=data.media[rows, :count])
        assert isinstance(condition, TinyCondition)
        return replace(condition, given=first.given)

    return give


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
    sections: list[RewardSection | HeldoutRewardSection] = [*recipe.reward]
    for section in (*sections, *recipe.evaluation.reward):
        card = getattr(reward_class(section.name), "card", None)
        check_embedded(recipe, section)
        if is_here and isinstance(card, RewardCard):
            card.require(section.name)
    check_model_path(recipe)
    family_of(recipe)
    if is_here:
        check_path(recipe)
        check_starts(recipe)


def build_model(
    recipe: Recipe,
    splits: DigitSplits | None,
    device: torch.device,
    *,
    progress: Progress | None = None,
) -> TinyModel | DiffusersModel:
    """The base model, on the device.

    Raises:
        WeightsError: it can't be loaded.
    """
    model: TinyModel | DiffusersModel
    if splits is None:
        model = build_pretrained(recipe, device)
    else:
        model = build_tiny(recipe, splits.train, device=device, progress=progress)
        model.transformer.to(device)
        if recipe.model.start:
            start_from(model, Path(recipe.model.start))
    if recipe.model.compile:
        count = compile_blocks(model.transformer)
        logger.info("compiling %d blocks, each when it first runs", count)
    return model


@dataclass(frozen=True)
class Assets:
    """What training and evaluation of a recipe share.

    Attributes:
        model: the base model, on the device; trained in place.
        corpus: the data.
        scorer: the rewards.
        splits: the embedded data, if that is what the recipe is about.
        base: hashes of the base's parts, as it was before any training.
    """

    model: TinyModel | DiffusersModel
    corpus: Corpus
    scorer: Scorer
    splits: DigitSplits | None
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
        splits = load_splits(recipe)
        scorer = build_scorer(recipe, splits)
        model = build_model(recipe, splits, device, progress=progress)
        base = base_identity(model)
        if checkpoint is not None:
            check_base(checkpoint, base, recipe, hint=resume_hint(recipe, "model.path"))
        corpus = build_corpus(recipe, model, splits, progress=progress)
        if checkpoint is not None:
            check_data(checkpoint, corpus.rows, recipe, hint=resume_hint(recipe, "data.path"))
        return cls(model, corpus, scorer, splits, base)

    @property
    def notes(self) -> dict[str, Any]:
        """What a checkpoint notes about base and data."""
        return identity_notes(self.base, self.corpus.rows)

    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of one sample of each size."""
        if len(self.corpus.sizes) == 1:
            return (tuple(self.corpus.train.x0.shape[1:]),)
        return tuple(self.model.latent_shape(*size) for size in self.corpus.sizes)
