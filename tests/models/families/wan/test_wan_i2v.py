"""Wan2.1 image-to-video over a tiny random pipeline: extra channels and CLIP features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanImageToVideoPipeline
from PIL import Image
from tests.models.families.cases import decoded
from tests.models.families.checks import Checks, FirstFrameChecks
from tests.models.families.tiny import random
from tests.models.families.wan import wan_parts
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from ddrl.errors import DataError, WeightsError
from ddrl.models.families.wan.image_to_video import WanI2V
from ddrl.models.families.wan.text_to_video import WanCondition
from ddrl.models.pretrained import load_model

FRAMES = wan_parts.pixels(2, 1, 3, 16, 32, seed=4)
IMAGE: dict[str, Any] = {"in_channels": 12, "image_dim": 32, "added_kv_proj_dim": 24}


def build_pipeline(_: Any = None, **settings: Any) -> WanImageToVideoPipeline:
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=32,
        patch_size=16,
    )
    return WanImageToVideoPipeline(
        transformer=wan_parts.transformer(**{**IMAGE, **settings}),
        vae=wan_parts.vae(),
        image_encoder=random(CLIPVisionModel, vision, seed=5),
        image_processor=CLIPImageProcessor(size=32, crop_size=32),
        **wan_parts.text_parts(),
    )


CASES = [
    wan_parts.case(
        "i2v",
        build_pipeline,
        WanI2V,
        given=1,
        guided=False,
        lora=2 * 12,  # with the keys and values of the picture
        decodes=decoded(guidance_scale=1.0, image=Image.new("RGB", (32, 16))),
    )
]


class TestI2V(Checks):
    """The shared checks."""


class TestFirstFrames(FirstFrameChecks):
    """The shared checks of given frames."""


def test_the_given_latents_are_the_pipelines(model: WanI2V) -> None:
    condition = model.encode(["a", "b"], first_frames=FRAMES, frames=9)
    assert condition.given is not None
    image, noise = 2 * FRAMES[:1, 0] - 1, torch.zeros(1, 4, 3, 2, 4)
    with torch.no_grad():
        _, channels = model.pipeline.prepare_latents(
            image, 1, 4, 16, 32, 9, torch.float32, torch.device("cpu"), latents=noise
        )
    torch.testing.assert_close(condition.given[:1], channels[:, 4:])
    assert channels[0, :4].flatten(2).mean(2).tolist() == [[1, 0, 0]] * 4


def test_a_condition_of_long_clips_serves_shorter_ones(model: WanI2V) -> None:
    long = model.encode(["a", "b"], first_frames=FRAMES)
    short = model.encode(["a", "b"], first_frames=FRAMES, frames=5)
    assert long.given is not None
    assert long.given.shape[2] == 21  # 81 frames
    assert short.given is not None
    torch.testing.assert_close(long.given[:, :, :2], short.given)
    x, t = torch.ones(2, 4, 2, 2, 4), torch.full((2,), 0.5)
    with torch.no_grad():
        torch.testing.assert_close(model.predict(x, t, long), model.predict(x, t, short))
        with pytest.raises(DataError, match=r"encoded for latents \(4, 2, 2, 4\)"):
            model.predict(torch.ones(2, 4, 3, 2, 4), t, short)


@pytest.mark.parametrize("field", ["given", "image"])
def test_channels_and_clip_features_both_matter(model: WanI2V, field: str) -> None:
    condition = model.encode(["a"], first_frames=FRAMES[:1], frames=5)
    changed = model.encode(["a"], first_frames=FRAMES[1:], frames=5)
    fields = {"given": condition.given, "image": condition.image, field: getattr(changed, field)}
    x, t = torch.ones(1, 4, 2, 2, 4), torch.full((1,), 0.5)
    with torch.no_grad():
        before = model.predict(x, t, condition)
        after = model.predict(x, t, WanCondition(condition.embeds, **fields))
    assert not torch.isclose(before, after).all()


def test_first_frames_of_another_size(model: WanI2V) -> None:
    with pytest.raises(DataError, match="multiples of 16"):
        model.encode(["a"], first_frames=torch.ones(1, 1, 3, 16, 24))
    with pytest.raises(DataError, match="1 \\+ a multiple of 4"):
        model.encode(["a", "b"], first_frames=FRAMES, frames=6)


def test_smallest_size_is_one_frame_without_and_with_a_long_text(model: WanI2V) -> None:
    assert model.given_frames == 1
    condition = model.encode(
        ["", "x" * 300], first_frames=wan_parts.pixels(2, 1, 3, 16, 16), frames=1
    )
    with torch.no_grad():
        velocity = model.predict(torch.ones(2, 4, 1, 2, 2), torch.full((2,), 0.5), condition)
    assert velocity.isfinite().all()


def test_models_of_first_and_last_frames_are_refused(tmp_path: Path) -> None:
    build_pipeline(pos_embed_seq_len=10).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="a first and a last frame"):
        load_model(tmp_path)
