"""The embedded words as a task."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ddrl.builders.store import fingerprint
from ddrl.builders.tasks.embedded import CACHE_VERSION, EmbeddedTask
from ddrl.builders.tasks.task import Jury
from ddrl.data.embedded.sources import Splits
from ddrl.data.embedded.words import COLOURS, draw_letters, draw_words, word_splits
from ddrl.records import Prompts
from ddrl.rewards.builtin.embedded.prompt_words import asked_word
from ddrl.rewards.builtin.embedded.word_reader import WordReader, fit_word_reader
from ddrl.rewards.builtin.ocr import quoted

logger = logging.getLogger(__name__)


class Words(EmbeddedTask):
    """Pictures of short words in a colour, captioned as 'the word "lamp" in red'."""

    pixel_scale = 2
    gives: ClassVar[Mapping[str, Sequence[str]]] = {}
    channels = 3
    spells = True
    example = '[model]\nnetwork = "dit"\npatch = 8\n'

    def make_splits(self) -> Splits:
        """The drawn words."""
        return word_splits()

    def reader(self) -> WordReader:
        """A reader of words, trained on the judge's split and random letters."""
        data = self.splits.judge

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
        return WordReader.load(self.made_once("word-reader", key, make)[0])

    def jury(self) -> Jury:
        """Whether every letter is the asked one, and whether the colour is."""
        judge, names = self.reader(), tuple(COLOURS)

        def spells(media: Tensor, prompts: Prompts) -> Tensor:
            pairs = zip(judge.words(media), prompts.text, strict=True)
            return torch.tensor([float(found == quoted(text)) for found, text in pairs])

        def has_colour(media: Tensor, prompts: Prompts) -> Tensor:
            asked = [names.index(asked_word(text, names, "the colour")) for text in prompts.text]
            return (judge.style(media, "colour") == torch.tensor(asked)).float()

        return Jury({"judge_accuracy": spells, "colour_accuracy": has_colour}, judge.features)
