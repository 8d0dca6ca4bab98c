"""A case: one tiny pipeline, and what the shared checks expect of the adapter over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from tests.models.families.tiny import pixels
from torch import Tensor

from ddrl.models.adapter.diffusers_model import DiffusersModel

EDITS = ("make it a painting", "")
"""Instructions of different lengths."""


@dataclass(frozen=True)
class Case:
    """A tiny pipeline and its adapter.

    Attributes:
        name: of the case, in the tests' names.
        build: makes the pipeline; is given a folder for files that tokenizers are read from.
        adapter: the class that the pipeline's name leads to.
        own: the latents that the family's own pipeline makes of a call, in the adapter's layout;
            None where it has no such call.
        lora: number of modules that an adapter gets; None where another case shows it.
        limit: tokens of a text that are encoded; None where another case or test shows it.
        embeds: the shape of one row of the condition's ``embeds`` for the longest text.
        sizes: height, width and frames, and the shape of their latents.
        refused: height, width and frames that can't be made, and what the error says.
        shifts: shapes of latents, and the shift of their times.
        short: letters of a text that is not cut; half the limit if 0.
        lengths: tokens of the empty text and of one that is too long, where the condition has them.
        size: height, width and frames of the checks.
        texts: of the checks.
        guidance: of the check that guidance is the pipeline's.
        guided: whether the pipeline's guidance is the plain one; if not, the formula is checked.
        guided_times: the grid of that check.
        decodes: pixels that the pipeline makes of latents in the adapter's layout, if it can.
        times: the grid that ``own`` takes, the final 0 included.
        given: first frames, or source images of an edit, of each sample.
        is_told: whether it takes them only when it is told so; if not, as it is loaded.
        given_sizes: heights and widths of these, if not those of the sample.
        told: what the error says where given frames are missing.
        too_many: what it says where there are too many.
        prepare: changes a loaded adapter for tests.
        is_saved: whether the pipeline is saved and loaded as a user's is.
        is_masked: whether its network masks texts that have one length, too.
    """

    name: str
    build: Callable[[Path], Any]
    adapter: type[DiffusersModel]
    own: Callable[[Any, Call], Tensor] | None
    lora: int | None
    limit: int | None
    embeds: tuple[int, ...]
    sizes: Mapping[tuple[int, int, int], tuple[int, ...]]
    shifts: Mapping[tuple[int, ...], float]
    refused: Mapping[tuple[int, int, int], str] = field(default_factory=dict)
    short: int = 0
    lengths: tuple[int, int] | None = None
    size: tuple[int, int, int] = (16, 32, 1)
    texts: Sequence[str] = ("a cat holding a sign", "")
    guidance: float = 3.0
    guided: bool = True
    guided_times: tuple[float, ...] = (1.0, 0.5, 0.0)
    decodes: Callable[[Any, Tensor, Case], Tensor] | None = None
    times: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25, 0.0)
    given: int = 0
    is_told: bool = False
    given_sizes: Sequence[tuple[int, int]] = ()
    told: str = "needs a first frame"
    too_many: str = "takes 1 first frame per text"
    prepare: Callable[[Any], None] = lambda _: None
    is_saved: bool = True
    is_masked: bool = False

    def shape(self, model: DiffusersModel) -> tuple[int, ...]:
        """Of one sample's latents."""
        return model.latent_shape(*self.size)

    def media(self, *, seed: int = 1) -> Tensor:
        """Pixels of a sample for each text."""
        height, width, frames = self.size
        clip = () if frames == 1 else (frames,)
        return pixels(len(self.texts), *clip, 3, height, width, seed=seed)

    def first(self, *, size: tuple[int, int] | None = None, seed: int = 4) -> Tensor | None:
        """What each text is given, shape (U, F, 3, H, W); None where that is nothing."""
        if not self.given:
            return None
        return pixels(len(self.texts), self.given, 3, *(size or self.size[:2]), seed=seed)

    def pipeline(
        self, model: Any, given: Tensor | None
    ) -> Callable[[Tensor, Sequence[float]], Tensor] | None:
        """The family's own pipeline, for the conformance of the adapter."""
        own = self.own
        if own is None:
            return None
        return lambda x, times: own(model, Call(self, self.texts, x, times, given=given))

    def encode(self, model: Any, texts: Sequence[str] | None = None, **more: Any) -> Any:
        """The condition of the texts and of what they are given."""
        given = more.pop("given", self.first())
        if given is None:
            return model.encode(list(texts or self.texts))
        frames = self.size[2]
        return model.encode(list(texts or self.texts), first_frames=given, frames=frames)


@dataclass(frozen=True)
class Call:
    """What the family's own pipeline is asked for; see :meth:`latents`.

    Attributes:
        case: of the pipeline.
        texts: U of them.
        noise: in the adapter's layout, a row per text.
        times: without the final 0.
        guidance: as :class:`ddrl.training.forward.Forward` has it.
        given: first frames or source images, a row per text, if any.
    """

    case: Case
    texts: Sequence[str]
    noise: Tensor
    times: Sequence[float]
    guidance: float = 1.0
    given: Tensor | None = None

    @property
    def height(self) -> int:
        return self.case.size[0]

    @property
    def width(self) -> int:
        return self.case.size[1]

    def rows(self) -> list[Call]:
        """A call for each text, for pipelines that take one picture a call."""
        each = [slice(i, i + 1) for i in range(len(self.texts))]
        given = self.given
        return [
            replace(
                self,
                texts=self.texts[row],
                noise=self.noise[row],
                given=None if given is None else given[row],
            )
            for row in each
        ]

    def latents(self, model: Any, *, shift: float = 1.0, **arguments: Any) -> Tensor:
        """What the pipeline ends with, with Euler steps on a grid of this shift.

        Args:
            model: the adapter.
            shift: of the grid, for pipelines that take no times of their own.
            arguments: of the call, beside the texts, the size, the times and the noise; an
                argument that is None is left out.
        """
        frames = {} if self.case.size[2] == 1 else {"num_frames": self.case.size[2]}
        mine = {
            "prompt": list(self.texts),
            "sigmas": list(self.times),
            "height": self.height,
            "width": self.width,
            "latents": self.noise,
            "output_type": "latent",
        }
        asked = {n: v for n, v in (mine | frames | arguments).items() if v is not None}
        return ask(model, FlowMatchEulerDiscreteScheduler(shift=shift), **asked)


def only(*names: str) -> Callable[[Any], Any]:
    """Run a test with these of its file's cases."""

    def marked(test: Any) -> Any:
        test.cases = names
        return test

    return marked


def needs(field: str) -> Callable[[Any], Any]:
    """Run a test with the cases that have this field."""

    def marked(test: Any) -> Any:
        test.needs = field
        return test

    return marked


def ask(model: Any, scheduler: Any, **arguments: Any) -> Tensor:
    """The pictures or clips of a call of the adapter's pipeline, with this scheduler for once."""
    pipeline = model.pipeline
    kept, pipeline.scheduler = pipeline.scheduler, scheduler
    try:
        made: Tensor = pipeline(**arguments)[0]
    finally:
        pipeline.scheduler = kept
    return made


def decoded(
    pack: Callable[[Tensor], Tensor] = lambda latents: latents,
    scheduler: Any = None,
    **arguments: Any,
) -> Callable[[Any, Tensor, Case], Tensor]:
    """The pixels that a pipeline makes of latents which take the place of its last step's."""

    def run(model: Any, latents: Tensor, case: Case) -> Tensor:
        def swap(_: Any, index: int, step: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
            return {**values, "latents": pack(latents)}

        height, width, frames = case.size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # which a decoder's own noise comes from
            return ask(
                model,
                scheduler or FlowMatchEulerDiscreteScheduler(),
                prompt="a",
                num_inference_steps=1,
                height=height,
                width=width,
                callback_on_step_end=swap,
                generator=torch.Generator().manual_seed(0),
                output_type="pt",
                **({} if frames == 1 else {"num_frames": frames}),
                **arguments,
            )

    return run
