"""What a run is about, as one object: all that depends on where its data are from."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ddrl.builders.data.corpus import Corpus
from ddrl.builders.store import Progress
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.compiling import compile_blocks
from ddrl.models.tiny.model import TinyModel
from ddrl.recipe.recipe import Recipe
from ddrl.recipe.sections.rewards import HeldoutRewardSection, RewardSection
from ddrl.records import Condition, Prompts

logger = logging.getLogger(__name__)

Model = TinyModel | DiffusersModel
"""What is trained: the embedded model, or a pipeline of a family."""

Judge = Callable[[Tensor, Prompts], Tensor]
"""Media (B, ...) and their prompts to one number each, (B,); more is better."""


@dataclass(frozen=True)
class Jury:
    """What samples are judged by, none of which a reward was ever trained on.

    Attributes:
        judges: name -> judge.
        features: media (B, ...) to features (B, F), in which samples are compared with data; None:
            pooled pixels are.
    """

    judges: Mapping[str, Judge] = field(default_factory=dict)
    features: Callable[[Tensor], Tensor] | None = None


class Task(ABC):
    """What a run is about: data, base, judges, and what else the source of its data decides.

    Args:
        recipe: of the run.

    Attributes:
        is_embedded: whether the base is the embedded model, which is pretrained here.
        samples_base: whether the held-out data are samples of the base, which are then no real
            media.
        heldout_kind: what held-out data are called in a report.
        pixel_scale: screen pixels per pixel, where samples are shown.
        gives: name of a reward -> its options that the task can give.
    """

    is_embedded: ClassVar[bool] = False
    samples_base: ClassVar[bool] = False
    heldout_kind: ClassVar[str] = "samples"
    pixel_scale: ClassVar[int] = 1
    gives: ClassVar[Mapping[str, Sequence[str]]] = {}

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @property
    def is_here(self) -> bool:
        """Whether the data are here, or need not be: a plan may be made elsewhere than the run."""
        return True

    def check(self) -> None:  # noqa: B027 - a task may have nothing to check
        """Refuse data that are not there; costs nothing, so that it comes before a model is loaded.

        Raises:
            DataError: they are missing, or not what the recipe says.
        """

    def model(self, device: torch.device, *, progress: Progress | None = None) -> Model:
        """The base model, on the device.

        Raises:
            WeightsError: it can't be loaded.
        """
        model = self.base(device, progress=progress)
        if self.recipe.model.compile:
            count = compile_blocks(model.transformer)
            logger.info("compiling %d blocks, each when it first runs", count)
        return model

    @abstractmethod
    def base(self, device: torch.device, *, progress: Progress | None = None) -> Model:
        """The base model, on the device and not compiled."""

    @abstractmethod
    def sketch(self) -> tuple[Model, tuple[int, ...]]:
        """The model without its weights, and the shape of one sample's latents of the largest size.

        Raises:
            DDRLError: of the kind that fits, for what the recipe asks of it and can't be had.
        """

    @abstractmethod
    def blank(self, model: Model, rows: int, latent_shape: tuple[int, ...]) -> Condition:
        """A condition with nothing in it, from which a plan tells the memory.

        Raises:
            UsageError: the shapes of encoded texts are not known.
        """

    @abstractmethod
    def latent_shapes(self, model: Model) -> tuple[tuple[int, ...], ...]:
        """The shape of one sample's latents of each size."""

    @abstractmethod
    def corpus(self, model: Model, *, progress: Progress | None = None) -> Corpus:
        """The data, encoded.

        Raises:
            DataError: they can't be had.
        """

    def missing_options(self, section: RewardSection | HeldoutRewardSection) -> list[str]:
        """Options of a reward that the recipe leaves to the task."""
        return [n for n in self.gives.get(section.name, ()) if n not in section.options]

    def options(self, section: RewardSection | HeldoutRewardSection) -> dict[str, object]:
        """All options of a reward: the recipe's, and those that it leaves to the task."""
        missing = self.missing_options(section)
        given = self.give_options(section.name, missing) if missing else {}
        return {**section.options, **given}

    def give_options(self, reward: str, names: Sequence[str]) -> Mapping[str, object]:  # noqa: ARG002
        """Options of a reward that is among :attr:`gives`, made now if they are not cached."""
        return {}

    def jury(self) -> Jury:
        """What samples are judged by, made now if it is not cached."""
        return Jury()

    def other_real(self) -> Tensor | None:
        """Real media beside the held-out ones that the judge was not trained on, if there are any.

        Between these two no model stands, so their distance says what a distance of 0 looks like.
        """
        return None

    def prepare(self) -> None:  # noqa: B027 - a pretrained base needs nothing
        """Make what runs of the task share, before several of them ask for it at once."""
