"""HunyuanVideo-1.5 over tiny random pipelines, saved and loaded as a user's would be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
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
from PIL import Image
from tests.models.families.chat_parts import chat_tokenizer, pixels, qwen_vl_config, random
from tests.models.families.tiny import t5_encoder
from torch import Tensor
from transformers import (
    ByT5Tokenizer,
    Qwen2_5_VLTextModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from ddrl.errors import DataError, WeightsError
from ddrl.models.families.hunyuan_video15 import (
    HunyuanVideo15,
    HunyuanVideo15Condition,
    HunyuanVideo15I2V,
)
from ddrl.models.lora.adapter import LoRASettings, add_lora
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward
from ddrl.training.rollout import sample_ode

TEXTS = ['a sign that says "DDRL"', ""]
TIMES = (1.0, 0.75, 0.5, 0.25, 0.0)
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hunyuan") / "model"
    HunyuanVideo15Pipeline(**parts(task="t2v")).save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> HunyuanVideo15:
    loaded = load_model(folder)
    assert type(loaded) is HunyuanVideo15
    return shorter(loaded)


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> HunyuanVideo15I2V:
    made = tmp_path_factory.mktemp("hunyuan-image") / "model"
    vision = SiglipVisionConfig(
        hidden_size=24,
        intermediate_size=37,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    HunyuanVideo15ImageToVideoPipeline(
        **parts(task="i2v"),
        image_encoder=random(SiglipVisionModel, vision),
        feature_extractor=SiglipImageProcessor(size={"height": 16, "width": 16}),
    ).save_pretrained(made)
    loaded = load_model(made)
    assert isinstance(loaded, HunyuanVideo15I2V)
    return shorter(loaded)


def shorter(model: Any) -> Any:
    """Padding as short as a test can do with: it is quadratic in it."""
    model.pipeline.tokenizer_max_length = 500
    model.pipeline.tokenizer_2_max_length = 32
    model.pipeline.vision_num_semantic_tokens = 4
    return model


def own_pipeline(
    model: HunyuanVideo15, *, first: Tensor | None = None, guidance: float = 1.0
) -> Callable[[Tensor, Sequence[float]], Tensor]:
    def run(noise: Tensor, times: Sequence[float]) -> Tensor:
        pipeline = model.pipeline
        pipeline.set_progress_bar_config(disable=True)
        kept = pipeline.scheduler, pipeline.guider
        pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
        pipeline.guider = ClassifierFreeGuidance(guidance_scale=guidance)
        settings: dict[str, Any] = {
            "sigmas": list(times),
            "num_inference_steps": len(times),
            "num_frames": 1 + 4 * (noise.shape[2] - 1),
            "output_type": "latent",
        }
        size = {"height": noise.shape[3] * 4, "width": noise.shape[4] * 4}
        try:
            if first is None:
                return pipeline(prompt=TEXTS, latents=noise, **size, **settings).frames
            rows = []
            for i, text in enumerate(TEXTS):
                levels = (first[i, 0] * 255).round().byte().permute(1, 2, 0)
                image = Image.fromarray(levels.numpy())
                found = pipeline(image, [text], latents=noise[i : i + 1], **settings).frames
                rows.append(found)
            return torch.cat(rows)
        finally:
            pipeline.scheduler, pipeline.guider = kept

    return run


def image_condition(model: HunyuanVideo15I2V) -> tuple[HunyuanVideo15Condition, Tensor]:
    first = pixels(2, 1, 3, SIDE, SIDE, seed=2)
    return model.encode(TEXTS, first_frames=first), first


def test_conformance_of_text_to_video(model: HunyuanVideo15) -> None:
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(TEXTS),
            latent_shape=model.latent_shape(8, 16, 5),
            media=pixels(2, 5, 3, 8, 16),
            pipeline=own_pipeline(model),
            texts=TEXTS,
        )
    )


def test_conformance_of_image_to_video(image_model: HunyuanVideo15I2V) -> None:
    condition, first = image_condition(image_model)
    check_adapter(
        AdapterCase(
            model=image_model,
            condition=condition,
            latent_shape=image_model.latent_shape(SIDE, SIDE, 5),
            media=pixels(2, 5, 3, SIDE, SIDE),
            pipeline=own_pipeline(image_model, first=first),
            texts=TEXTS,
            first_frames=first,
        )
    )


@pytest.mark.parametrize("task", ["text", "image"])
def test_guidance_is_the_pipelines(
    task: str, model: HunyuanVideo15, image_model: HunyuanVideo15I2V
) -> None:
    chosen, first = model, None
    condition: HunyuanVideo15Condition
    if task == "image":
        chosen = image_model
        condition, first = image_condition(image_model)
    else:
        found = model.encode(TEXTS)
        assert isinstance(found, HunyuanVideo15Condition)
        condition = found
    shape = (2, *chosen.latent_shape(SIDE, SIDE, 5))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    times = torch.tensor(TIMES, dtype=torch.float64)
    ours = sample_ode(Forward(chosen, guidance=3.0), condition, noise, times=times, solver="euler")
    theirs = own_pipeline(chosen, first=first, guidance=3.0)(noise, TIMES[:-1])
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_first_frame_is_seen_as_given_and_only_by_its_sample(
    image_model: HunyuanVideo15I2V,
) -> None:
    condition, first = image_condition(image_model)
    assert condition.given is not None
    assert condition.image is not None
    # The latent is the clip's own first one.
    clip = torch.cat([first, pixels(2, 4, 3, SIDE, SIDE, seed=5)], dim=1)
    torch.testing.assert_close(image_model.encode_media(clip)[:, :, :1], condition.given)
    noise = torch.ones(2, CHANNELS, 2, 4, 4)
    seen, image = image_model._first_frame(noise, condition)
    assert torch.equal(seen[:, :-1, :1], condition.given)
    assert torch.equal(seen[:, -1, :, 0, 0], torch.tensor([[1.0, 0.0]] * 2))
    assert not seen[:, :, 1:].any()
    assert torch.equal(image, condition.image)
    other = first.clone()
    other[0] = 1 - other[0]
    moved = image_model.encode(TEXTS, first_frames=other)
    with torch.no_grad():
        before, after = (
            image_model.predict(noise, torch.full((2,), 0.5), c) for c in (condition, moved)
        )
    assert not torch.equal(before[0], after[0])
    torch.testing.assert_close(before[1], after[1])


def test_texts_are_padded_and_cut_as_the_pipeline_does(model: HunyuanVideo15) -> None:
    texts = ["", "x" * 300, 'y" "' * 200, 'say "hi"']
    condition = model.encode(texts)
    assert isinstance(condition, HunyuanVideo15Condition)
    assert condition.embeds.shape == (4, 500, 32)
    assert condition.glyphs.shape == (4, 32, 32)
    assert condition.glyph_mask.any(1).tolist() == [False, False, True, True]


def test_half_precision(model: HunyuanVideo15) -> None:
    condition = model.encode(TEXTS)
    model.transformer.to(torch.bfloat16)
    try:
        with torch.no_grad():
            x = torch.ones(2, CHANNELS, 1, 2, 2)
            velocity = model.predict(x, torch.full((2,), 0.5), condition)
    finally:
        model.transformer.to(torch.float32)
    assert velocity.isfinite().all()


def test_sizes(model: HunyuanVideo15) -> None:
    assert model.latent_shape(4, 4) == (CHANNELS, 1, 1, 1)
    assert model.latent_shape(480, 832, 121) == (CHANNELS, 31, 120, 208)
    with pytest.raises(DataError, match="multiples of 4"):
        model.latent_shape(6, 16)
    with pytest.raises(DataError, match=r"1 \+ a multiple of 4 frames, not 8"):
        model.latent_shape(16, 16, 8)
    assert model.time_shift((CHANNELS, 1, 4, 4)) == 5.0


def test_wrong_first_frames(image_model: HunyuanVideo15I2V) -> None:
    with pytest.raises(DataError, match="takes 1 first frame per text"):
        image_model.encode(TEXTS, first_frames=pixels(2, 2, 3, SIDE, SIDE))
    with pytest.raises(DataError, match="multiples of 4"):
        image_model.encode(TEXTS, first_frames=pixels(2, 1, 3, 6, SIDE))
    condition, _ = image_condition(image_model)
    noise, time = torch.zeros(2, CHANNELS, 1, 4, 2), torch.full((2,), 0.5)
    with pytest.raises(DataError, match="needs a first frame"):
        image_model.predict(noise, time, dataclasses.replace(condition, given=None))
    with pytest.raises(DataError, match=r"have \(4, 4\) latents"):
        image_model.predict(noise, time, condition)


def test_lora_reaches_both_streams(folder: Path) -> None:
    model = load_model(folder)
    settings, targets = LoRASettings(rank=2), model.lora_targets
    adapted = add_lora(model.transformer, settings, targets=targets, is_used=model.is_used)
    refiner = 4
    assert adapted == 2 * 8 - 1 + refiner  # what the last block makes of the text goes nowhere


def test_step_distilled_models_are_refused() -> None:
    pipeline = HunyuanVideo15Pipeline(**parts(task="t2v", meanflow=True))
    with pytest.raises(WeightsError, match="step-distilled"):
        HunyuanVideo15(pipeline)
