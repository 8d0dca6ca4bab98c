"""Qwen-Image over a tiny random pipeline, saved and loaded as a user's would be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from tests.models.families.tiny import t5_tokenizer
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from ddrl.diffusion.schedule import time_grid
from ddrl.errors import DataError
from ddrl.models.families.qwen_image import QwenImage, QwenImageCondition
from ddrl.models.lora.adapter import LoRASettings, add_lora, lora_disabled
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward
from ddrl.training.rollout import sample_ode

TEXTS = ["a cat holding a sign", ""]
AFTER = 14  # tokens of the template after the text: its end, and the assistant's turn
INSTRUCTION = (
    "Describe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the object"
)


def tokenizer() -> Any:
    """Single bytes, but the template before the text takes 34 tokens, as in the real one."""
    made = t5_tokenizer(2000)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.add_tokens([INSTRUCTION])
    return made


def text_encoder() -> Qwen2_5_VLForConditionalGeneration:
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 300,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_parameters": {
                "mrope_section": [1, 1, 2],
                "rope_type": "default",
                "rope_theta": 1e6,
            },
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
        },
        **{f"{name}_token_id": 299 for name in ("image", "video", "vision_start", "vision_end")},
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def build_pipeline() -> QwenImagePipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 6, 6),
        )
        vae = AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[True],
            latents_mean=[0.3, -0.2, 0.1, 0.5],
            latents_std=[2.0, 1.5, 0.5, 1.2],
        )
        encoder = text_encoder()
    # The released scheduler, but for its shift_terminal of 0.02, which is no shift.
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192
    )
    return QwenImagePipeline(
        transformer=transformer,
        scheduler=scheduler,
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer(),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("qwen_image") / "model"
    build_pipeline().save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> QwenImage:
    loaded = load_model(folder)
    assert isinstance(loaded, QwenImage)
    loaded.pipeline.set_progress_bar_config(disable=True)
    return loaded


def packed(x: Tensor) -> Tensor:
    return QwenImagePipeline._pack_latents(x, *x.shape)


def own_pipeline(model: QwenImage, texts: Sequence[str]) -> Any:
    def run(noise: Tensor, times: Sequence[float]) -> Tensor:
        pipeline = model.pipeline
        own, pipeline.scheduler = pipeline.scheduler, FlowMatchEulerDiscreteScheduler(shift=1.0)
        height, width = noise.shape[2] * 2, noise.shape[3] * 2
        latents = pipeline(
            prompt=list(texts),
            sigmas=list(times),
            true_cfg_scale=1.0,
            height=height,
            width=width,
            latents=packed(noise),
            output_type="latent",
        ).images
        pipeline.scheduler = own
        unpacked: Tensor = QwenImagePipeline._unpack_latents(latents, height, width, 2)
        return unpacked[:, :, 0]

    return run


def test_conformance(model: QwenImage) -> None:
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(TEXTS),
            latent_shape=model.latent_shape(16, 32),
            media=torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(1)),
            pipeline=own_pipeline(model, TEXTS),
            texts=TEXTS,
        )
    )


def test_decoding_is_the_pipelines(model: QwenImage) -> None:
    noise = torch.randn(1, *model.latent_shape(16, 32), generator=torch.Generator().manual_seed(3))
    images = model.pipeline(
        prompt="an owl",
        sigmas=[1.0, 0.5],
        true_cfg_scale=1.0,
        height=16,
        width=32,
        latents=packed(noise),
        output_type="pt",
    ).images
    sigmas = model.pipeline.scheduler.sigmas
    condition = model.encode(["an owl"])
    latents = sample_ode(Forward(model), condition, noise, times=sigmas, solver="euler")
    torch.testing.assert_close(model.decode(latents, condition), images, rtol=0, atol=1e-4)


@torch.no_grad()
def test_latents_have_the_vaes_statistics_taken_out(model: QwenImage) -> None:
    media = torch.rand(1, 3, 16, 32, generator=torch.Generator().manual_seed(1))
    raw = model.vae.encode(2 * media[:, :, None] - 1).latent_dist.mode()
    for channel, (mean, std) in enumerate([(0.3, 2.0), (-0.2, 1.5), (0.1, 0.5), (0.5, 1.2)]):
        expected = (raw[:, channel, 0] - mean) / std
        torch.testing.assert_close(model.encode_media(media)[:, channel], expected)


def test_guidance_is_plain(model: QwenImage) -> None:
    """Guidance between texts of different lengths; the pipeline's then rescales, ours does not."""
    noise = torch.randn(2, *model.latent_shape(16, 16), generator=torch.Generator().manual_seed(2))
    t = torch.tensor([0.7, 0.4])
    texts, empty = model.encode(TEXTS), model.encode([""])
    with torch.no_grad():
        v = model.predict(noise, t, texts)
        v_empty = torch.cat(
            [model.predict(x[None], t[i : i + 1], empty) for i, x in enumerate(noise)]
        )
        guided = Forward(model, guidance=3.0)(noise, t, texts)
    torch.testing.assert_close(guided, v_empty + 3.0 * (v - v_empty), rtol=0, atol=1e-4)


def test_where_pads(model: QwenImage) -> None:
    short, long = model.encode(["a"]), model.encode(["b" * 20])
    assert isinstance(short, QwenImageCondition)
    assert isinstance(long, QwenImageCondition)
    for first, second in ((short, long), (long, short)):
        mixed = first[torch.tensor([0, 0])].where(torch.tensor([False, True]), second)
        assert mixed.mask.sum(1).tolist() == [int(first.mask.sum()), int(second.mask.sum())]
        for row, source in enumerate((first, second)):
            kept = mixed.embeds[row][mixed.mask[row]]
            assert torch.equal(kept, source.embeds[0][source.mask[0]])
            assert not mixed.embeds[row][~mixed.mask[row]].any()


def test_lengths_of_texts(model: QwenImage) -> None:
    texts = ["", "x" * 300, "x" * 512 + "y", "x" * 512 + "z", "short"]
    together = model.encode(texts)
    assert isinstance(together, QwenImageCondition)
    lengths = [AFTER, 300 + AFTER, 512, 512, 5 + AFTER]
    assert together.mask.sum(1).tolist() == lengths
    torch.testing.assert_close(together.embeds[2], together.embeds[3])  # both cut off


@torch.no_grad()
def test_padding_does_not_matter(model: QwenImage) -> None:
    condition = model.encode(["a cat"])
    assert isinstance(condition, QwenImageCondition)
    longer = condition.padded(100)
    assert longer.embeds.shape[1] == 100
    longer.embeds[:, condition.embeds.shape[1] :] = 7.0
    x, t = torch.ones(1, *model.latent_shape(16, 16)), torch.tensor([0.5])
    torch.testing.assert_close(model.predict(x, t, condition), model.predict(x, t, longer))


def test_sizes_are_even_in_latents(model: QwenImage) -> None:
    assert model.latent_shape(4, 8) == (4, 2, 4)
    with pytest.raises(DataError, match="multiples of 4"):
        model.latent_shape(6, 8)


def test_shift_is_the_pipelines(model: QwenImage) -> None:
    noise = torch.randn(1, *model.latent_shape(32, 64), generator=torch.Generator().manual_seed(3))
    model.pipeline(
        prompt="a",
        num_inference_steps=4,
        true_cfg_scale=1.0,
        height=32,
        width=64,
        latents=packed(noise),
        output_type="latent",
    )
    theirs = model.pipeline.scheduler.sigmas.double()
    ours = time_grid(4, shift=model.time_shift((4, 16, 32)))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert model.time_shift((16, 128, 256)) == pytest.approx(math.exp(0.9))  # 8192 tokens


@torch.no_grad()
def test_lora(folder: Path) -> None:
    model = load_model(folder)
    x, t, condition = torch.ones(1, 4, 4, 4), torch.tensor([0.5]), model.encode(["a"])
    before = model.predict(x, t, condition)
    settings, targets = LoRASettings(rank=2), model.lora_targets
    number = add_lora(model.transformer, settings, targets=targets, is_used=model.is_used)
    assert number == 2 * 12 - 3  # what the last block makes of the text goes nowhere
    for name, parameter in model.transformer.named_parameters():
        if "lora_B" in name:
            parameter.fill_(0.1)
    assert not torch.equal(model.predict(x, t, condition), before)
    with lora_disabled(model.transformer):
        assert torch.equal(model.predict(x, t, condition), before)
