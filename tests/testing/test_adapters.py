"""The conformance suite passes a model that keeps the contract and names what another breaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddrl.diffusion.process import RectifiedFlow
from ddrl.errors import DataError
from ddrl.records import Condition
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.testing.require import ConformanceError

LENGTH = 40  # letters that are read
TEXTS = ["a cat", ""]


@dataclass(frozen=True)
class Letters(Condition):
    counts: Tensor


class Good:
    """A linear model of images with sides of multiples of 2, told the letters of a text."""

    process = RectifiedFlow()

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            parts = {"picture": nn.Conv2d(3, 3, 3, padding=1), "text": nn.Linear(128, 3)}
            self.transformer: nn.Module = nn.ModuleDict(parts)

    def encode(self, texts: Sequence[str]) -> Letters:
        codes = [[ord(letter) for letter in text[:LENGTH]] for text in texts]
        rows = [torch.bincount(torch.tensor(c, dtype=torch.long), minlength=128) for c in codes]
        return Letters(torch.stack(rows).float())

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        assert isinstance(condition, Letters)
        text: Tensor = self.transformer.get_submodule("text")(condition.counts)
        picture: Tensor = self.transformer.get_submodule("picture")(x_t)
        return picture + (t[:, None] * text)[:, :, None, None]

    def encode_media(self, media: Tensor) -> Tensor:
        return 2 * F.avg_pool2d(media, 2) - 1

    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:
        return F.interpolate(latents / 2 + 0.5, scale_factor=2.0).clamp(0, 1)

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        if frames != 1:
            raise DataError("These are images.", hint="set data.frames = 1")
        if height % 2 or width % 2:
            even = [max(2, side - side % 2) for side in (height, width)]
            raise DataError("Sides are even.", hint=f"the nearest is {even[0]}x{even[1]}")
        return (3, height // 2, width // 2)

    def time_shift(self, latent_shape: Sequence[int], num_steps: int | None = None) -> float:
        return 1.0


class Timeless(Good):
    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return super().predict(x_t, torch.ones_like(t), condition)


class Together(Good):
    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return super().predict(x_t - x_t.mean(0), t, condition)


class Comparing(Good):
    def encode(self, texts: Sequence[str]) -> Letters:
        counts = super().encode(texts).counts
        return Letters(counts - counts.mean(0))


class Endless(Good):
    def encode(self, texts: Sequence[str]) -> Letters:
        lengths = torch.tensor([float(len(text)) for text in texts])
        return Letters(super().encode(texts).counts + lengths[:, None])


class Mute(Good):
    def encode(self, texts: Sequence[str]) -> Letters:
        counts = super().encode(texts).counts
        if texts == [""]:
            return Letters(counts / counts)
        return Letters(counts / counts.sum(1, keepdim=True).clamp_min(1))


class Tracking(Good):
    def encode(self, texts: Sequence[str]) -> Letters:
        return Letters(super().encode(texts).counts.requires_grad_())


class Curt(Good):
    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        try:
            return super().latent_shape(height, width, frames)
        except DataError as error:
            raise DataError(error.message) from error


class Misleading(Good):
    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        if height == 1:
            raise DataError("Sides are even.", hint="the nearest is 3x2")
        return super().latent_shape(height, width, frames)


class Filming(Good):
    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        return super().latent_shape(height, width)


class Large(Good):
    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        velocity = super().predict(x_t, t, condition)
        return velocity / (x_t.shape[-1] > 1)


class Loud(Good):
    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:
        return 3 * super().decode(latents)


class Shifting(Good):
    """Subtracts the shift after the scale, and adds it before."""

    def normalize(self, latents: Tensor) -> Tensor:
        return latents * 1.5 - 0.1

    def denormalize(self, latents: Tensor) -> Tensor:
        return latents / 1.5 + 0.1


class Bare(Good):
    def normalize(self, latents: Tensor) -> Tensor:
        return latents

    denormalize = normalize


class Idle(Good):
    def __init__(self) -> None:
        super().__init__()
        self.transformer.register_parameter("idle", nn.Parameter(torch.zeros(1)))


def case(model: Good) -> AdapterCase:
    media = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    return AdapterCase(
        model=model, condition=model.encode(TEXTS), latent_shape=(3, 4, 6), media=media
    )


def test_a_model_that_keeps_the_contract_passes() -> None:
    model = Good()
    check_adapter(case(model))
    check_adapter(replace(case(model), texts=TEXTS, round_trip=0.4))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Timeless, "does not depend on the time"),
        (Together, "a batch differs from its rows"),
        (Comparing, "depends by .* on what it is encoded with"),
        (Endless, "a text of 6000 letters depends"),
        (Mute, "not finite|depends by nan"),
        (Tracking, "keeps a graph"),
        (Curt, "a hint that does not help: ''"),
        (Misleading, "a hint that does not help: 'the nearest is 3x2'"),
        (Filming, "images of 2 frames"),
        (Large, r"latents of \(3, 1, 1\) give values"),
        (Loud, "decode gives pixels from"),
        (Shifting, r"normalize\(denormalize\(x\)\) is .* away from x"),
        (Bare, "taken as they are"),
        (Idle, r"no gradient reaches trainable parameters: \['idle'\]"),
    ],
)
def test_what_breaks_it_is_named(broken: type[Good], message: str) -> None:
    with pytest.raises(ConformanceError, match=message):
        check_adapter(case(broken()))


def test_a_pipeline_that_differs_is_seen() -> None:
    model = Good()
    with pytest.raises(ConformanceError, match="away from the pipeline's"):
        check_adapter(replace(case(model), pipeline=lambda noise, _: noise))
    with pytest.raises(ConformanceError, match="away from x"):
        check_adapter(replace(case(model), round_trip=0.01))
