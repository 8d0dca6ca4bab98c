"""Data, base model, rewards and judge of a recipe."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from ddrl.builders.store import fingerprint, make_once
from ddrl.data.digits import DigitSplits, digit_splits
from ddrl.data.sources import CaptionedMedia
from ddrl.errors import DataError, RewardError, UsageError
from ddrl.models.tiny import TinyConfig, TinyModel
from ddrl.recipe.schema import Recipe, RewardSection
from ddrl.rewards.base import make_reward
from ddrl.rewards.builtin.classifier import Architecture, Classifier, fit_classifier
from ddrl.rewards.scorer import Scorer, WeightedReward
from ddrl.training.pretrain import PretrainSettings, pretrain

__all__ = [
    "Assets",
    "Progress",
    "base_config",
    "build_base",
    "build_judge",
    "build_scorer",
    "limit_threads",
    "load_data",
    "pick_device",
]

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int, str], None]
"""(what is made, done, of how many, a note): called now and then."""

# Part of every cache key: raise it when the making of a cached thing changes.
CACHE_VERSION = 1


def pick_device(recipe: Recipe) -> torch.device:
    """The device of ``run.device``.

    Raises:
        UsageError: CUDA is asked for and not there.
    """
    name = recipe.run.device
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            'run.device is "cuda", but PyTorch sees no CUDA device.',
            hint='set run.device = "auto" or "cpu"',
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def limit_threads(recipe: Recipe) -> None:
    """Hold PyTorch and the linear algebra below NumPy to ``run.threads``, if that is not 0."""
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
        threadpool_limits(recipe.run.threads)


def load_data(recipe: Recipe) -> DigitSplits:
    """Load the data of ``data.source``.

    Raises:
        DataError: there is no such source.
    """
    if recipe.data.source != "digits":
        raise DataError(
            f"There is no data source {recipe.data.source!r}.",
            hint='data.source can be "digits", the embedded data',
        )
    return digit_splits()


def base_config(recipe: Recipe, data: CaptionedMedia) -> TinyConfig:
    """The architecture of the base model.

    Raises:
        UsageError: there is no such family.
    """
    section = recipe.model
    if section.family != "tiny":
        raise UsageError(
            f"There is no model family {section.family!r}.",
            hint='model.family can be "tiny", the embedded model',
        )
    return TinyConfig(
        vocabulary=data.captions,
        height=data.media.shape[-2],
        columns=data.media.shape[-1],
        network=section.network,
        width=section.width,
        depth=section.depth,
        heads=section.heads,
        patch=section.patch,
    )


def build_base(
    recipe: Recipe, data: CaptionedMedia, *, progress: Progress | None = None
) -> TinyModel:
    """Return the base model, on the CPU: from the cache, or pretrained now by flow matching.

    Raises:
        UsageError: there is no such family.
    """
    section, config = recipe.model, base_config(recipe, data)

    def make(folder: Path) -> None:
        logger.info("pretraining the base model (%d steps)", section.pretrain.steps)
        model = TinyModel(config, seed=section.pretrain.seed)
        settings = PretrainSettings(**section.pretrain.model_dump())
        pretrain(
            model,
            model.encode_media(data.media),
            model.encode(data.captions),
            data.caption_id,
            settings=settings,
            progress=None
            if progress is None
            else lambda step, loss: progress("base", step, settings.steps, f"loss {loss:.3f}"),
        )
        model.save(folder)

    key = [CACHE_VERSION, section.model_dump(), fingerprint(data)]
    folder, made = make_once(Path(recipe.run.cache), "base", key, make)
    if not made:
        logger.info("base model from %s", folder)
    return TinyModel.load(folder)


def _classifier_folder(
    recipe: Recipe, data: CaptionedMedia, architecture: Architecture, what: str
) -> Path:
    """The folder of a classifier trained on ``data``, made now if it is not cached."""

    def make(folder: Path) -> None:
        logger.info("training the %s's classifier", what)
        fit_classifier(
            data.media,
            data.caption_id,
            labels=data.captions,
            architecture=architecture,
            seed=0,
        ).save(folder)

    key = [CACHE_VERSION, architecture, fingerprint(data)]
    return make_once(Path(recipe.run.cache), f"classifier-{architecture}", key, make)[0]


def build_judge(recipe: Recipe, splits: DigitSplits) -> Classifier:
    """The judge: another architecture than the reward's, on data that the reward never saw."""
    return Classifier.load(_classifier_folder(recipe, splits.judge, "conv", "judge"))


def build_scorer(recipe: Recipe, splits: DigitSplits) -> Scorer:
    """The rewards of the recipe.

    Raises:
        RewardError: a reward can't be had.
    """
    names: list[str] = []
    rewards = []
    for section in recipe.reward:
        name = section.name.rpartition(":")[2]
        if name in names:
            raise RewardError(f"Reward {name!r} is in the recipe twice.")
        names.append(name)
        reward = make_reward(section.name, _options(recipe, section, splits))
        rewards.append(WeightedReward(name, reward, section.weight))
    return Scorer(
        rewards,
        on_failure=recipe.scoring.on_failure,
        max_failed_share=recipe.scoring.max_failed_share,
    )


def _options(recipe: Recipe, section: RewardSection, splits: DigitSplits) -> dict[str, object]:
    """The reward's options; the embedded classifier is made where no weights are named."""
    options: dict[str, object] = dict(section.options)
    if section.name == "classifier" and "weights" not in options:
        options["weights"] = str(_classifier_folder(recipe, splits.reward, "mlp", "reward"))
    return options


@dataclass(frozen=True)
class Assets:
    """What training and evaluation of a recipe share.

    Attributes:
        splits: the data.
        base: the base model, untouched, on the CPU.
        scorer: the rewards.
    """

    splits: DigitSplits
    base: TinyModel
    scorer: Scorer

    @classmethod
    def build(cls, recipe: Recipe, *, progress: Progress | None = None) -> Assets:
        """Make or find all of it."""
        splits = load_data(recipe)
        scorer = build_scorer(recipe, splits)
        return cls(splits, build_base(recipe, splits.train, progress=progress), scorer)
