"""What LTX-Video and LTX-2 share in their tests: frame rates, and a given first frame."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from diffusers import LTXPipeline
from PIL import Image
from tests.models.families.cases import Call, Case, needs
from tests.models.families.checks import latents, velocity
from tests.models.families.tiny import pixels
from torch import Tensor

from ddrl.models.families.ltx2 import LTX2

SHARED: dict[str, Any] = {
    "size": (32, 64, 5),  # the pipelines take multiples of 32 only
    "sizes": {(4, 8, 1): (8, 1, 1, 2), (32, 32, 9): (8, 3, 8, 8)},
    "refused": {(32, 32, 8): r"1 \+ a multiple of 4 frames, not 8"},
    # With the tokens: 1024 and 4096 of them.
    "shifts": {(8, 4, 16, 16): math.exp(0.95), (8, 4, 32, 32): math.exp(2.05)},
}
GIVEN: dict[str, Any] = {
    "given": 1,
    "lora": None,
    "limit": None,
    "guided": False,  # as from text, whose guidance is the pipeline's
    "size": (32, 64, 9),
    "sizes": {(32, 64, 9): (8, 2, 8, 16)},
    "refused": {(32, 32, 1): "at least 5, not 1"},
    "shifts": {},
}


def whole(model: Any, call: Call) -> Tensor:
    """The noise, and in front of it the latents of a given frame."""
    if call.given is None:
        return call.noise
    condition = model.encode(list(call.texts), first_frames=call.given)
    return torch.cat([condition.given, call.noise], dim=2)


def generated(model: Any, made: Tensor, clip: Tensor) -> Tensor:
    """What is generated of the pipeline's latents, whose given frame must be as it was."""
    given = model.given_latents
    torch.testing.assert_close(made[:, :, :given], clip[:, :, :given])
    return made[:, :, given:]


class Checks:
    """Of both."""

    rate: ClassVar[float]

    @needs("decodes")  # the cases from text
    def test_the_frame_rate_is_the_pipelines(self, model: Any, case: Case) -> None:
        assert model.frame_rate == self.rate
        x, condition, ones = latents(model, case), case.encode(model), torch.ones(2)
        other = x - velocity(model, x, ones, condition)
        model.frame_rate = 8.0
        ours = x - velocity(model, x, ones, condition)
        model.frame_rate = self.rate
        call = Call(case, case.texts, x, [1.0])
        assert case.own is not None
        theirs = case.own(model, call, frame_rate=8)  # type: ignore[call-arg]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
        assert not torch.allclose(ours, other, rtol=0, atol=1e-4)


class GivenChecks:
    """Of both, with a first frame."""

    text: ClassVar[Any]

    def test_the_given_latents_are_the_pipelines_of_the_picture(self, model: Any) -> None:
        levels = (pixels(3, 32, 64) * 255).round().byte()
        vae, pipeline = model.vae, model.pipeline
        factor = vae.config.scaling_factor
        vae.register_to_config(scaling_factor=1.0)  # as released; of a picture, it takes no other
        try:
            condition = model.encode(["a"], first_frames=levels[None, None] / 255)
            ours = condition.given
            picture = Image.fromarray(levels.permute(1, 2, 0).numpy())
            image = pipeline.video_processor.preprocess(picture, height=32, width=64)
            tokens, mask = pipeline.prepare_latents(
                image,
                1,
                8,
                32,
                64,
                5,
                dtype=torch.float32,
                generator=torch.Generator().manual_seed(0),
            )
            with torch.no_grad():
                spread = vae.encode(image.unsqueeze(2)).latent_dist.std / model.statistics(ours)[1]
        finally:
            vae.register_to_config(scaling_factor=factor)
        theirs = LTXPipeline._unpack_latents(tokens, 2, 8, 16)[:, :, :1]
        assert mask.reshape(2, -1)[:, 0].tolist() == [1, 0]
        # LTX-Video's pipeline draws from the posterior, of which ddrl takes the mode.
        allowed = 0.0 if isinstance(model, LTX2) else 6 * spread
        assert bool(((ours - theirs).abs() <= 1e-5 + allowed).all())

    def test_tokens_of_the_given_frame_count_for_the_shift(self, model: Any, case: Case) -> None:
        num, shift = model.num_tokens(case.shape(model)), model.time_shift(case.shape(model))
        assert num == 3 * 8 * 16
        model.given_frames = 0
        assert shift == model.time_shift(case.shape(model))

    def test_the_text_class_takes_a_frame_when_told(self, model: Any, case: Case) -> None:
        parts = {n: p for n, p in model.pipeline.components.items() if p is not None}
        other = type(model)(self.text(**parts))
        assert other.given_frames == 0
        assert other.caller() is self.text
        other.given_frames = 1
        assert other.caller() is type(model.pipeline)
        assert "image" in other.call_parameters()
        x, t = latents(model, case), torch.tensor([0.5])
        made = (velocity(each, x, t, case.encode(each)) for each in (other, model))
        torch.testing.assert_close(*made)
