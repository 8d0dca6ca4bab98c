"""Data, base model, rewards and judge of a recipe."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from ddrl.builders.corpus import Corpus, check_path, digits_corpus, files_corpus
from ddrl.builders.store import Progress, fingerprint, make_once
from ddrl.data.digits import DigitSplits, digit_splits
from ddrl.data.sources import CaptionedMedia
from ddrl.errors import RewardError, UsageError
from ddrl.models.diffusers_model import DiffusersModel
from ddrl.models.lora import LoRASettings, add_lora
from ddrl.models.pretrained import load_model
from ddrl.models.tiny import TinyConfig, TinyModel
from ddrl.recipe.schema import Recipe, RewardSection
from ddrl.rewards.base import make_reward, reward_class
from ddrl.rewards.builtin.classifier import Architecture, Classifier, fit_classifier
from ddrl.rewards.scorer import Scorer, WeightedReward
from ddrl.training.pretrain import PretrainSettings, pretrain

__all__ = [
    "Assets",
    "Progress",
    "build_corpus",
    "build_judge",
    "build_model",
    "build_pretrained",
    "build_scorer",
    "build_tiny",
    "check_named",
    "limit_threads",
    "load_splits",
    "pick_device",
    "tiny_config",
]

logger = logging.getLogger(__name__)

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


def tiny_config(recipe: Recipe, data: CaptionedMedia) -> TinyConfig:
    """The architecture of the embedded base model."""
    section = recipe.model
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


def build_tiny(
    recipe: Recipe, data: CaptionedMedia, *, progress: Progress | None = None
) -> TinyModel:
    """The embedded base model, on the CPU: from the cache, or pretrained now by flow matching."""
    section, config = recipe.model, tiny_config(recipe, data)

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

    key = [CACHE_VERSION, asdict(config), section.pretrain.model_dump(), fingerprint(data)]
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


def build_scorer(recipe: Recipe, splits: DigitSplits | None) -> Scorer:
    """The rewards of the recipe.

    Args:
        recipe: whose rewards.
        splits: the embedded data, if that is what the recipe is about.

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


def _options(
    recipe: Recipe, section: RewardSection, splits: DigitSplits | None
) -> dict[str, object]:
    """The reward's options; the embedded classifier is made where no weights are named."""
    options: dict[str, object] = dict(section.options)
    if _is_embedded(section):
        assert splits is not None  # check_named refuses it elsewhere
        options["weights"] = str(_classifier_folder(recipe, splits.reward, "mlp", "reward"))
    return options


def _is_embedded(section: RewardSection) -> bool:
    """Whether the reward is the classifier of the embedded data."""
    return section.name == "classifier" and "weights" not in section.options


def check_named(recipe: Recipe) -> None:
    """Find what a recipe names and can't be had, as far as that costs nothing.

    Raises:
        DataError: the data is missing.
        RewardError: a reward is missing, or is of other data.
    """
    for section in recipe.reward:
        reward_class(section.name)
        if _is_embedded(section) and recipe.data.source != "digits":
            raise RewardError(
                "Reward 'classifier' needs the option weights with data other than the digits.",
                hint="give a folder that holds a classifier, or another reward",
            )
    check_path(recipe)


def build_pretrained(recipe: Recipe, device: torch.device) -> DiffusersModel:
    """The diffusers model of the recipe, with a fresh adapter if it has one.

    Raises:
        WeightsError: it can't be loaded, or the adapter would be bound to nothing.
    """
    section = recipe.model
    model = load_model(section.path, dtype=getattr(torch, section.dtype))
    model.pipeline.to(device)
    if section.lora.rank:
        lora = LoRASettings(
            rank=section.lora.rank,
            alpha=section.lora.alpha or 2.0 * section.lora.rank,
            targets=tuple(t.strip() for t in section.lora.targets.split(",") if t.strip()),
            dora=section.lora.dora,
        )
        count = add_lora(model.transformer, lora, targets=model.lora_targets)
        logger.info("LoRA of rank %d on %d modules", lora.rank, count)
    else:
        model.transformer.float().requires_grad_(True)
    if section.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return model


def load_splits(recipe: Recipe) -> DigitSplits | None:
    """The embedded data, if the recipe is about it."""
    return digit_splits() if recipe.data.source == "digits" else None


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
    if splits is None:
        return build_pretrained(recipe, device)
    model = build_tiny(recipe, splits.train, progress=progress)
    model.transformer.to(device)
    return model


def build_corpus(
    recipe: Recipe,
    model: TinyModel | DiffusersModel,
    splits: DigitSplits | None,
    *,
    progress: Progress | None = None,
) -> Corpus:
    """The data, encoded.

    Raises:
        DataError: it can't be had.
    """
    if splits is not None and isinstance(model, TinyModel):
        return digits_corpus(splits, model)
    assert isinstance(model, DiffusersModel)  # the recipe's rules pair models with data
    return files_corpus(recipe, model, progress=progress)


@dataclass(frozen=True)
class Assets:
    """What training and evaluation of a recipe share.

    Attributes:
        model: the base model, on the device; trained in place.
        corpus: the data.
        scorer: the rewards.
        splits: the embedded data, if that is what the recipe is about.
    """

    model: TinyModel | DiffusersModel
    corpus: Corpus
    scorer: Scorer
    splits: DigitSplits | None

    @classmethod
    def build(
        cls, recipe: Recipe, device: torch.device, *, progress: Progress | None = None
    ) -> Assets:
        """Make or find all of it.

        Raises:
            DDRLError: of the kind that fits, for what can't be had.
        """
        check_named(recipe)
        splits = load_splits(recipe)
        scorer = build_scorer(recipe, splits)
        model = build_model(recipe, splits, device, progress=progress)
        return cls(model, build_corpus(recipe, model, splits, progress=progress), scorer, splits)

    def latent_shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return tuple(self.corpus.train.x0.shape[1:])
