"""Wan2.2 TI2V-5B over a tiny random pipeline: times per token, the first latent frame given."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from tests.models.families.cases import Case, decoded, only
from tests.models.families.checks import Checks, FirstFrameChecks, latents, velocity
from tests.models.families.wan import wan_parts

from ddrl.errors import DataError
from ddrl.models.families.wan.ti2v import WanTI2V

Z = 8
SIZED: dict[str, Any] = {"size": (32, 64, 9), "shifts": {}}


def build(pipeline: type[WanPipeline] | type[WanImageToVideoPipeline], _: Any = None) -> Any:
    parts = {
        "transformer": wan_parts.transformer(in_channels=Z, out_channels=Z),
        "vae": wan_parts.vae(
            z_dim=Z,
            is_residual=True,
            patch_size=2,
            in_channels=12,
            out_channels=12,
            scale_factor_spatial=16,
        ),
        **wan_parts.text_parts(),
    }
    return pipeline(expand_timesteps=True, **parts)


CASES = [
    wan_parts.case(
        "text",
        partial(build, WanPipeline),
        WanTI2V,
        **SIZED,
        guided=False,
        decodes=decoded(guidance_scale=1.0),
        sizes={(32, 32, 1): (Z, 1, 2, 2), (704, 1280, 121): (Z, 31, 44, 80)},
        refused={(48, 32, 5): "multiples of 32", (32, 32, 7): r"1 \+ a multiple of 4 frames"},
    ),
    wan_parts.case(
        "image",
        partial(build, WanImageToVideoPipeline),
        WanTI2V,
        **SIZED,
        **wan_parts.AGAIN,
        given=1,
        sizes={(32, 64, 9): (Z, 2, 2, 4), (32, 32, 5): (Z, 1, 2, 2)},
        refused={
            (48, 32, 5): "multiples of 32",
            (32, 32, 1): "at least 5, not 1",
            (32, 32, 7): r"1 \+ a multiple of 4 frames, not 7",
        },
    ),
]


class TestTI2V(Checks):
    """The shared checks."""


class TestFirstFrames(FirstFrameChecks):
    """The shared checks of given frames."""


@only("image")
def test_the_published_model_names_the_text_class_and_takes_frames_when_told(
    model: WanTI2V, case: Case
) -> None:
    parts = {n: p for n, p in model.pipeline.components.items() if not n.startswith("image")}
    text = WanTI2V(WanPipeline(**parts, expand_timesteps=True))
    assert text.given_frames == 0
    with pytest.raises(DataError, match="set to make clips from text"):
        case.encode(text)
    text.given_frames = 1
    x, t = latents(model, case), torch.tensor([0.5])
    made = (velocity(each, x, t, case.encode(each)) for each in (text, model))
    torch.testing.assert_close(*made)


@only("image")
def test_the_number_of_given_frames(model: WanTI2V) -> None:
    with pytest.raises(DataError, match="0 or 1 given frames, not 5"):
        WanTI2V(model.pipeline, given_frames=5)
