"""HunyuanVideo-1.5 over tiny random pipelines, saved and loaded as a user's would be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
)
from diffusers.guiders import ClassifierFreeGuidance
from tests.models.families.cases import Call, Case, only
from tests.models.families.checks import Checks, FirstFrameChecks
from tests.models.families.tiny import chat_tokenizer, pixels, qwen_vl_config, random, t5_encoder
from torch import Tensor
from transformers import (
    ByT5Tokenizer,
    Qwen2_5_VLTextModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from ddrl.errors import DataError, WeightsError
from ddrl.models.adapter.source_images import as_pictures
from ddrl.models.families.hunyuan_video15 import HunyuanVideo15, HunyuanVideo15I2V

CHANNELS = 4
SIDE = 16


def parts(*, task: str, meanflow: bool = False) -> dict[str, Any]:
    return {
        "text_encoder": random(Qwen2_5_VLTextModel, qwen_vl_config().text_config),
        "tokenizer": chat_tokenizer(),
        "text_encoder_2": t5_encoder(seed=3),
        "tokenizer_2": ByT5Tokenizer(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0),
        "guider": ClassifierFreeGuidance(guidance_scale=6.0),
        "transformer": random(
            HunyuanVideo15Transformer3DModel,
            in_channels=2 * CHANNELS + 1,
            out_channels=CHANNELS,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=2,
            num_refiner_layers=1,
            text_embed_dim=32,
            text_embed_2_dim=32,
            image_embed_dim=24,
            rope_axes_dim=(2, 2, 4),
            target_size=SIDE,
            task_type=task,
            use_meanflow=meanflow,
        ),
        "vae": random(
            AutoencoderKLHunyuanVideo15,
            latent_channels=CHANNELS,
            block_out_channels=(16, 16),
            layers_per_block=1,
            spatial_compression_ratio=4,
            temporal_compression_ratio=4,
            downsample_match_channel=False,
            upsample_match_channel=False,
            scaling_factor=1.5,
        ),
    }


def build_text(_: Any = None) -> HunyuanVideo15Pipeline:
    return HunyuanVideo15Pipeline(**parts(task="t2v"))


def build_image(_: Any = None) -> HunyuanVideo15ImageToVideoPipeline:
    vision = SiglipVisionConfig(
        hidden_size=24,
        intermediate_size=37,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    return HunyuanVideo15ImageToVideoPipeline(
        **parts(task="i2v"),
        image_encoder=random(SiglipVisionModel, vision),
        feature_extractor=SiglipImageProcessor(size={"height": 16, "width": 16}),
    )


def shorten(model: Any) -> None:
    """Padding as short as a test can do with: it is quadratic in it."""
    model.pipeline.tokenizer_max_length = 500
    model.pipeline.tokenizer_2_max_length = 32
    model.pipeline.vision_num_semantic_tokens = 4


def own(model: Any, call: Call) -> Tensor:
    """The pipeline's own call; from a picture a row each, whose size it takes from the picture."""
    pipeline = model.pipeline
    kept, pipeline.guider = pipeline.guider, ClassifierFreeGuidance(guidance_scale=call.guidance)
    steps = {"num_inference_steps": len(call.times)}
    try:
        if call.given is None:
            return call.latents(model, **steps)
        rows = [
            row.latents(model, image=as_pictures(row.given[0])[0], height=None, width=None, **steps)
            for row in call.rows()
            if row.given is not None
        ]
        return torch.cat(rows)
    finally:
        pipeline.guider = kept


def case(name: str, build: Any, adapter: Any, size: tuple[int, int, int], **more: Any) -> Case:
    refiner = 4
    shared: dict[str, Any] = {
        "lora": 2 * 8 - 1 + refiner,  # what the last block makes of the text goes nowhere
        "limit": 500,
        "short": 40,  # beside the template, which is long in letters
        "embeds": (500, 32),
        "sizes": {
            (4, 4, 1): (CHANNELS, 1, 1, 1),
            (480, 832, 121): (CHANNELS, 31, 120, 208),
        },
        "refused": {
            (6, 16, 1): "multiples of 4",
            (16, 16, 8): r"1 \+ a multiple of 4 frames, not 8",
        },
        "shifts": {(CHANNELS, 1, 4, 4): 5.0},
        "size": size,
        "texts": ('a sign that says "DDRL"', ""),
        "prepare": shorten,
        "is_masked": True,
    }
    return Case(name, build, adapter, own, **(shared | more))


CASES = [
    case("text", build_text, HunyuanVideo15, (8, 16, 5)),
    case("image", build_image, HunyuanVideo15I2V, (SIDE, SIDE, 5), given=1, lora=None, limit=None),
]
OF_TEXT = only("text")


class TestHunyuan(Checks):
    """The shared checks."""

    test_decoding = None  # its pipeline takes no latents to decode


class TestFirstFrames(FirstFrameChecks):
    """The shared checks of given frames."""


@only("image")
def test_the_first_frame_is_in_channels_of_its_own(model: HunyuanVideo15I2V, case: Case) -> None:
    condition: Any = case.encode(model)
    seen, image = model._first_frame(torch.ones(2, CHANNELS, 2, 4, 4), condition)
    assert torch.equal(seen[:, :-1, :1], condition.given)
    assert torch.equal(seen[:, -1, :, 0, 0], torch.tensor([[1.0, 0.0]] * 2))
    assert not seen[:, :, 1:].any()
    assert torch.equal(image, condition.image)


@only("image")
def test_first_frames_of_another_size(model: HunyuanVideo15I2V, case: Case) -> None:
    with pytest.raises(DataError, match="multiples of 4"):
        model.encode(["a", "b"], first_frames=pixels(2, 1, 3, 6, SIDE))
    x = torch.zeros(2, CHANNELS, 1, 4, 2)
    with pytest.raises(DataError, match=r"have \(4, 4\) latents"):
        model.predict(x, torch.tensor([0.5, 0.5]), case.encode(model))


@OF_TEXT
def test_what_is_between_quotes_is_read_as_glyphs(model: HunyuanVideo15) -> None:
    condition: Any = model.encode(["", "x" * 300, 'y" "' * 200, 'say "hi"'])
    assert condition.glyphs.shape == (4, 32, 32)
    assert condition.glyph_mask.any(1).tolist() == [False, False, True, True]


@OF_TEXT
def test_half_precision(model: HunyuanVideo15, case: Case) -> None:
    condition = case.encode(model)
    model.transformer.to(torch.bfloat16)
    try:
        with torch.no_grad():
            x = torch.ones(2, CHANNELS, 1, 2, 2)
            velocity = model.predict(x, torch.full((2,), 0.5), condition)
    finally:
        model.transformer.to(torch.float32)
    assert velocity.isfinite().all()


def test_step_distilled_models_are_refused() -> None:
    pipeline = HunyuanVideo15Pipeline(**parts(task="t2v", meanflow=True))
    with pytest.raises(WeightsError, match="step-distilled"):
        HunyuanVideo15(pipeline)
