"""Tasks whose data and base are made here: what digits, moving digits and words share.

A task of this kind says what its data are (:meth:`EmbeddedTask.make_splits`), and what of the rest
is other than for images that a classifier can tell apart.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ddrl.builders.data.corpus import Corpus, Part, Real
from ddrl.builders.keys import own_code
from ddrl.builders.scorers import build_scorer
from ddrl.builders.stages import newest_weights
from ddrl.builders.store import Progress, fingerprint, make_once
from ddrl.builders.tasks.task import Judge, Jury, Model, Task
from ddrl.builders.verify import DataRow
from ddrl.data.embedded.sources import CaptionedMedia, Splits, check_splits
from ddrl.errors import RewardError
from ddrl.models.tiny.config import TinyConfig
from ddrl.models.tiny.model import TinyCondition, TinyModel
from ddrl.models.tiny.spelling import pieces, vocabulary_of
from ddrl.models.tiny.text_networks import TextDiT
from ddrl.records import Condition, Prompts
from ddrl.rewards.builtin.embedded.classifier import Architecture, Classifier, fit_classifier
from ddrl.training.checkpoint import load_weights
from ddrl.training.pretrain import PretrainSettings, pretrain

logger = logging.getLogger(__name__)

# Part of every key of what is made here: raise it when the making of it changes.
CACHE_VERSION = 1
CLIPS_VERSION = 2  # the same, of the base of clips

_NUM_STEPS = 800  # of a classifier's training


class EmbeddedTask(Task):
    """Data that are drawn or shipped, the embedded model pretrained on them, and a judge.

    As it stands it is of images whose captions a classifier of grey pictures can tell apart.

    Attributes:
        channels: of the model's pictures: 1 (grey) or 3.
        spells: whether texts are spelled, letter by letter, where they stand in quotation marks.
        example: the keys beside ``data.source`` of the smallest recipe, as TOML that goes on with
            ``[data]``.
    """

    is_embedded = True
    pixel_scale = 8
    gives: ClassVar[Mapping[str, Sequence[str]]] = {"classifier": ("weights",)}
    channels: ClassVar[int] = 1
    spells: ClassVar[bool] = False
    example: ClassVar[str] = ""

    @abstractmethod
    def make_splits(self) -> Splits:
        """The data, always the same."""

    @cached_property
    def splits(self) -> Splits:
        """The data, made when they are first asked for.

        Raises:
            DataError: they can't be made as the recipe says.
        """
        splits = self.make_splits()
        if own_code(type(self)):
            check_splits(splits, self.recipe.data.source, given=self.recipe.data.given_frames)
        return splits

    def config(self) -> TinyConfig:
        """The architecture of the base model."""
        section, data = self.recipe.model, self.splits.train
        is_video = data.media.ndim == 5
        vocabulary = data.captions
        if is_video:
            vocabulary = tuple(sorted({word for text in data.captions for word in text.split()}))
        return TinyConfig(
            vocabulary=vocabulary_of(data.captions) if self.spells else vocabulary,
            height=data.media.shape[-2],
            columns=data.media.shape[-1],
            network=section.network,
            width=section.width,
            depth=section.depth,
            heads=section.heads,
            patch=section.patch,
            frames=data.media.shape[1] if is_video else 1,
            patch_frames=section.patch_frames if is_video else 1,
            given_frames=self.recipe.data.given_frames,
            channels=self.channels,
            text_length=max(len(pieces(t)) for t in data.captions) if self.spells else 0,
        )

    def base(self, device: torch.device, *, progress: Progress | None = None) -> TinyModel:
        """The embedded model: from the cache, or pretrained now by flow matching."""
        config = self.config()
        defaults = asdict(TinyConfig((), 1, 1))
        # Keys that came later change nothing while they are at their defaults.
        shape = {
            name: value
            for name, value in asdict(config).items()
            if name not in {"frames", "patch_frames", "given_frames", "text_length"}
            or value != defaults[name]
        }
        version = CACHE_VERSION if config.frames == 1 else CLIPS_VERSION
        settings = self.recipe.model.pretrain.model_dump()
        folder, made = self.made_once(
            "base",
            [version, shape, settings, fingerprint(self.splits.train)],
            lambda folder: self._pretrain(config, device, progress).save(folder),
        )
        if not made:
            logger.info("base model from %s", folder)
        model = TinyModel.load(folder)
        model.transformer.to(device)
        if start := self.recipe.model.start:
            load_weights(model.transformer, newest_weights(Path(start)))
        return model

    def _pretrain(
        self, config: TinyConfig, device: torch.device, progress: Progress | None
    ) -> TinyModel:
        section, data = self.recipe.model.pretrain, self.splits.train
        logger.info("pretraining the base model (%d steps)", section.steps)
        model = TinyModel(config, seed=section.seed)
        model.transformer.to(device)
        settings = PretrainSettings(**section.model_dump())
        x0, condition = model.encode_media(data.media), model.encode(data.captions)
        if isinstance(model.transformer, TextDiT):
            text = condition.label[data.caption_id]
            model.transformer.measure(x0.to(text.device), text, seed=section.seed)
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
        return model

    def sketch(self) -> tuple[Model, tuple[int, ...]]:
        """The embedded model with fresh weights."""
        model = TinyModel(self.config())
        return model, self.latent_shapes(model)[0]

    def blank(
        self,
        model: Model,
        rows: int,
        latent_shape: tuple[int, ...],  # noqa: ARG002 - the model has one
    ) -> Condition:
        """Empty texts, and black first frames if the model takes any."""
        assert isinstance(model, TinyModel)
        config = model.config
        size = (config.given_frames, 3, config.height, config.columns)
        black = torch.zeros(rows, *size) if config.given_frames else None
        return model.encode([""] * rows, first_frames=black)

    def latent_shapes(self, model: Model) -> tuple[tuple[int, ...], ...]:
        """The one that the model makes."""
        assert isinstance(model, TinyModel)
        config = model.config
        return (model.latent_shape(config.height, config.columns, config.frames),)

    @torch.no_grad()
    def corpus(self, model: Model, *, progress: Progress | None = None) -> Corpus:  # noqa: ARG002
        """The splits to train on and to hold out, encoded."""
        assert isinstance(model, TinyModel)
        config, splits = model.config, self.splits
        parts = {"training": splits.train, "held-out": splits.heldout}
        train, held = (_encoded(model, data) for data in parts.values())
        rows = tuple(
            DataRow(
                f"the {kind} part", " ".join(data.captions), fingerprint(data), kind != "training"
            )
            for kind, data in parts.items()
        )
        real = Real(splits.heldout.media, held.caption_id, held.captions)
        return Corpus(train, held, real, ((config.height, config.columns, config.frames),), rows)

    def give_options(self, reward: str, names: Sequence[str]) -> Mapping[str, object]:  # noqa: ARG002
        """The folder of a classifier, trained on the split that the judge never sees.

        Raises:
            RewardError: the data are clips.
        """
        if self.splits.train.media.ndim == 5:
            raise RewardError(
                f"Reward {reward!r} looks at images, and {self.recipe.data.source} has clips.",
                hint="choose another reward, or give its options from the task: give_options",
            )
        return {"weights": str(self.classifier_folder(self.splits.reward, "mlp", "reward"))}

    def jury(self) -> Jury:
        """Of images: another network than the reward's, on data that the reward never saw."""
        if self.splits.train.media.ndim == 5:
            return Jury()
        judge = Classifier.load(self.classifier_folder(self.splits.judge, "conv", "judge"))
        return Jury({"judge_accuracy": _accepts(judge)}, judge.features)

    def other_real(self) -> Tensor | None:
        """Those of the reward's split."""
        return self.splits.reward.media

    def prepare(self) -> None:
        """Make the base, what the rewards need, and the judge."""
        build_scorer(self)
        self.model(torch.device("cpu"))
        self.jury()

    def classifier_folder(
        self,
        images: CaptionedMedia,
        architecture: Architecture,
        what: str,
        *,
        num_steps: int = _NUM_STEPS,
    ) -> Path:
        """The folder of a classifier of captions, made now if it is not cached.

        Args:
            images: that it is trained on.
            architecture: of its network.
            what: it is for, for the log.
            num_steps: of its training.
        """

        def make(folder: Path) -> None:
            logger.info("training the %s's classifier", what)
            fit_classifier(
                images.media,
                images.caption_id,
                labels=images.captions,
                architecture=architecture,
                seed=0,
                num_steps=num_steps,
            ).save(folder)

        more = [num_steps] if num_steps != _NUM_STEPS else []
        key = [CACHE_VERSION, architecture, fingerprint(images), *more]
        return self.made_once(f"classifier-{architecture}", key, make)[0]

    def made_once(self, kind: str, key: object, make: Callable[[Path], None]) -> tuple[Path, bool]:
        """See :func:`~ddrl.builders.store.make_once`, in the recipe's cache."""
        code = own_code(type(self))
        return make_once(Path(self.recipe.run.cache), kind, key, make, code=code)


def _encoded(model: TinyModel, data: CaptionedMedia) -> Part:
    given, x0 = model.config.given_frames, model.encode_media(data.media)
    if not given:
        return Part(data.captions, model.encode(data.captions), data.caption_id, x0)
    # A prompt is a caption and first frames, so that each clip has its own.
    texts = data.texts()
    condition = model.encode(texts, first_frames=data.media[:, :given])
    return Part(texts, condition, torch.arange(len(texts)), x0)


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


def _accepts(judge: Classifier) -> Judge:
    """Whether the judge takes a sample for what was asked: 1 or 0."""

    def accepts(media: Tensor, prompts: Prompts) -> Tensor:
        return (judge.log_prob(media).argmax(1) == prompts.prompt_id).float()

    return accepts
