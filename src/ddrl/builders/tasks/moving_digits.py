"""The embedded clips as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ddrl.builders.tasks.embedded import EmbeddedTask
from ddrl.builders.tasks.task import Jury
from ddrl.data.embedded.moving_digits import (
    DIRECTIONS,
    SPEEDS,
    frames_by_digit,
    moving_digit_splits,
    speeds,
)
from ddrl.data.embedded.sources import CaptionedMedia, Splits
from ddrl.records import Prompts
from ddrl.rewards.builtin.embedded.classifier import Architecture, Classifier
from ddrl.rewards.builtin.embedded.motion import asked_velocity
from ddrl.rewards.builtin.embedded.prompt_words import asked_word
from ddrl.rewards.builtin.embedded.registration import fit_motions


class MovingDigits(EmbeddedTask):
    """Clips of a digit that moves, captioned as "a three moving left slowly"."""

    gives: ClassVar[Mapping[str, Sequence[str]]] = {
        "digit_identity": ("weights",),
        "motion": SPEEDS,
    }
    example = 'height = 12\nwidth = 12\nframes = 8\n[model]\nnetwork = "dit"\n'

    def make_splits(self) -> Splits:
        """Clips of the recipe's size.

        Raises:
            DataError: clips of this size can't be made.
        """
        data = self.recipe.data
        return moving_digit_splits(size=(data.height, data.width), frames=data.frames)

    @property
    def speeds(self) -> dict[str, float]:
        """Speed word to pixels per frame."""
        data = self.recipe.data
        return speeds((data.height, data.width), data.frames)

    def give_options(self, reward: str, names: Sequence[str]) -> Mapping[str, object]:
        """A classifier of frames, or the speeds of the two words."""
        if reward == "motion":
            return {name: self.speeds[name] for name in names}
        return {"weights": str(self._of_frames(self.splits.reward, "mlp", "reward"))}

    def _of_frames(self, clips: CaptionedMedia, architecture: Architecture, what: str) -> Path:
        """The folder of a classifier of frames, which learns soon: they are many and alike."""
        images = frames_by_digit(clips)
        return self.classifier_folder(images, architecture, what, num_steps=300)

    def jury(self) -> Jury:
        """What is asked for, each by itself.

        Whether the judge takes a clip, over all frames, for the asked digit; whether the asked
        motion explains it best, of nine with standing still; and how well any motion does, which
        is 1 for one thing that moves unchanged.
        """
        judge = Classifier.load(self._of_frames(self.splits.judge, "conv", "judge"))
        known = self.speeds
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

        judges = {"judge_accuracy": digit, "motion_accuracy": motion, "rigidity": rigid}
        return Jury(judges, judge.features)
