"""What belongs to the embedded data: classifiers that are made once, rewards, judges."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ddrl.builders.store import fingerprint, make_once
from ddrl.data.embedded.digits import DigitSplits, digit_splits
from ddrl.data.embedded.moving_digits import (
    DIRECTIONS,
    SPEEDS,
    frames_by_digit,
    moving_digit_splits,
    speeds,
)
from ddrl.data.embedded.sources import CaptionedMedia
from ddrl.data.embedded.words import COLOURS, draw_letters, draw_words, word_splits
from ddrl.errors import RewardError
from ddrl.recipe.recipe import Recipe
from ddrl.recipe.sections.rewards import HeldoutRewardSection, RewardSection
from ddrl.records import Prompts
from ddrl.rewards.builtin.embedded.classifier import Architecture, Classifier, fit_classifier
from ddrl.rewards.builtin.embedded.motion import asked_velocity
from ddrl.rewards.builtin.embedded.prompt_words import asked_word
from ddrl.rewards.builtin.embedded.registration import fit_motions
from ddrl.rewards.builtin.embedded.word_reader import WordReader, fit_word_reader
from ddrl.rewards.builtin.ocr import quoted

logger = logging.getLogger(__name__)

# Part of every classifier's cache key: raise it when the making of one changes.
CACHE_VERSION = 1

# The data that a reward can be had for without options, and what it is without them.
EMBEDDED = {"classifier": "digits", "digit_identity": "moving_digits", "motion": "moving_digits"}

Judge = Callable[[Tensor, Prompts], Tensor]
"""Media (B, ...) and their prompts to one number each, (B,); more is better."""


def load_splits(recipe: Recipe) -> DigitSplits | None:
    """The embedded data, if the recipe is about it.

    Raises:
        DataError: clips of this size can't be made.
    """
    data = recipe.data
    if data.source == "moving_digits":
        return moving_digit_splits(size=(data.height, data.width), frames=data.frames)
    if data.source == "words":
        return word_splits()
    return digit_splits() if data.source == "digits" else None


def check_embedded(recipe: Recipe, section: RewardSection | HeldoutRewardSection) -> None:
    """Refuse a reward without its options on data that it can't take them from.

    Raises:
        RewardError: it needs options.
    """
    source = EMBEDDED.get(section.name)
    if source in {None, recipe.data.source} or not _missing(section):
        return
    options = " and ".join(_missing(section))
    name = source.replace("_", " ") if source else ""
    raise RewardError(
        f"Reward {section.name!r} needs the option {options} with data other than the {name}.",
        hint="give a folder that holds a classifier, or another reward"
        if options == "weights"
        else "give its options, or another reward",
    )


def embedded_options(
    recipe: Recipe,
    section: RewardSection | HeldoutRewardSection,
    splits: DigitSplits | None,
) -> dict[str, object]:
    """The reward's options; those that it can take from the embedded data are added."""
    options: dict[str, object] = dict(section.options)
    if splits is None or EMBEDDED.get(section.name) != recipe.data.source:
        return options
    missing = _missing(section)
    if section.name == "motion":
        size = (recipe.data.height, recipe.data.width)
        known = speeds(size, recipe.data.frames)
        return {**options, **{name: known[name] for name in missing}}
    if missing:
        options["weights"] = str(_classifier_folder(recipe, splits.reward, "mlp", "reward"))
    return options


def _missing(section: RewardSection | HeldoutRewardSection) -> list[str]:
    """Options that the reward needs and that the recipe does not give."""
    needed = SPEEDS if section.name == "motion" else ("weights",)
    return [name for name in needed if name not in section.options]


def build_judge(recipe: Recipe, splits: DigitSplits) -> Classifier | WordReader:
    """The judge: another network than the reward's, on data that the reward never saw."""
    if recipe.data.source == "words":
        return WordReader.load(_reader_folder(recipe, splits.judge))
    return Classifier.load(_classifier_folder(recipe, splits.judge, "conv", "judge"))


def build_judges(recipe: Recipe, judge: Classifier | WordReader) -> dict[str, Judge]:
    """What samples of the embedded data are judged by, none of which was ever trained on.

    Of images: whether the judge takes them for what was asked. Of clips: whether it takes them,
    over all frames, for the asked digit; whether the asked motion explains them best, of nine with
    standing still; and how well any motion does, which is 1 for one thing that moves unchanged.
    Of words: whether every letter is the asked one, and whether the colour is.
    """
    if isinstance(judge, WordReader):
        return {"judge_accuracy": _spells(judge), "colour_accuracy": _has_colour(judge)}
    if recipe.data.source != "moving_digits":
        return {"judge_accuracy": _accepts(judge)}
    known = speeds((recipe.data.height, recipe.data.width), recipe.data.frames)
    motions = [(x * v, y * v) for x, y in DIRECTIONS.values() for v in known.values()]
    motions.append((0.0, 0.0))

    def digit(media: Tensor, prompts: Prompts) -> Tensor:
        every = judge.log_prob(media.flatten(0, 1)).reshape(*media.shape[:2], -1).mean(1)
        names = judge.labels
        asked = [names.index(asked_word(text, names, "the digit")) for text in prompts.text]
        return (every.argmax(1) == torch.tensor(asked)).float()

    def motion(media: Tensor, prompts: Prompts) -> Tensor:
        found = torch.tensor(motions)[fit_motions(media, motions).argmax(1)]
        return (found == asked_velocity(prompts, known)).all(1).float()

    def rigid(media: Tensor, prompts: Prompts) -> Tensor:  # noqa: ARG001
        return fit_motions(media, motions).amax(1)

    return {"judge_accuracy": digit, "motion_accuracy": motion, "rigidity": rigid}


def _accepts(judge: Classifier) -> Judge:
    """Whether the judge takes a sample for what was asked: 1 or 0."""

    def accepts(media: Tensor, prompts: Prompts) -> Tensor:
        return (judge.log_prob(media).argmax(1) == prompts.prompt_id).float()

    return accepts


def _spells(judge: WordReader) -> Judge:
    """Whether a picture shows the quoted word, letter by letter: 1 or 0."""

    def spells(media: Tensor, prompts: Prompts) -> Tensor:
        pairs = zip(judge.words(media), prompts.text, strict=True)
        return torch.tensor([float(found == quoted(text)) for found, text in pairs])

    return spells


def _has_colour(judge: WordReader) -> Judge:
    """Whether the letters have the asked colour: 1 or 0."""
    names = tuple(COLOURS)

    def has(media: Tensor, prompts: Prompts) -> Tensor:
        asked = [names.index(asked_word(text, names, "the colour")) for text in prompts.text]
        return (judge.style(media, "colour") == torch.tensor(asked)).float()

    return has


def _reader_folder(recipe: Recipe, data: CaptionedMedia) -> Path:
    """The folder of the reader of words, trained on the judge's split and random letters."""

    def make(folder: Path) -> None:
        logger.info("training the judge, which reads words")
        drawn = [draw_words("judge"), draw_letters(2 * len(data))]
        fit_word_reader(
            torch.cat([one.data.media for one in drawn]),
            [word for one in drawn for word in one.word],
            {
                "colour": torch.cat([one.colour for one in drawn]),
                "font": torch.cat([one.font for one in drawn]),
                "background": torch.cat([one.background for one in drawn]),
            },
            seed=0,
        ).save(folder)

    key = [CACHE_VERSION, fingerprint(data)]
    return make_once(Path(recipe.run.cache), "word-reader", key, make)[0]


def _classifier_folder(
    recipe: Recipe, data: CaptionedMedia, architecture: Architecture, what: str
) -> Path:
    """The folder of a classifier trained on images or frames, made now if it is not cached."""
    is_video = data.media.ndim == 5
    images = frames_by_digit(data) if is_video else data
    num_steps = 300 if is_video else 800  # frames of a clip are many and alike

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

    key = [CACHE_VERSION, architecture, fingerprint(images), *([num_steps] if is_video else [])]
    return make_once(Path(recipe.run.cache), f"classifier-{architecture}", key, make)[0]
