"""SD3 over a tiny random pipeline, saved and loaded as a user's would be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tests.models.families.tiny import clip_text_model, clip_tokenizer, t5_encoder, t5_tokenizer
from torch import Tensor

from ddrl.models.families.sd3 import SD3
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter

TEXTS = ["a cat holding a sign", ""]


def build_pipeline(folder: Path) -> StableDiffusion3Pipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = SD3Transformer2DModel(
            sample_size=32,
            patch_size=1,
            in_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            pooled_projection_dim=64,
            out_channels=4,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 16),
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
            up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
            latent_channels=4,
            norm_num_groups=4,
            scaling_factor=1.5,
            shift_factor=0.1,
        )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=clip_text_model(seed=1),
        tokenizer=clip_tokenizer(folder / "clip"),
        text_encoder_2=clip_text_model(seed=2),
        tokenizer_2=clip_tokenizer(folder / "clip2"),
        text_encoder_3=t5_encoder(seed=3),
        tokenizer_3=t5_tokenizer(),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sd3")
    build_pipeline(made).save_pretrained(made / "model")
    return made / "model"


def own_pipeline(model: SD3, texts: Sequence[str]) -> Any:
    def run(noise: Tensor, times: Sequence[float]) -> Tensor:
        pipeline = model.pipeline
        pipeline.set_progress_bar_config(disable=True)
        pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
        latents: Tensor = pipeline(
            prompt=list(texts),
            sigmas=list(times),
            guidance_scale=1.0,
            height=noise.shape[2] * 2,
            width=noise.shape[3] * 2,
            latents=noise,
            output_type="latent",
        ).images
        return latents

    return run


def test_conformance(folder: Path) -> None:
    model = load_model(folder)
    assert isinstance(model, SD3)
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(TEXTS),
            latent_shape=model.latent_shape(16, 32),
            media=torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(1)),
            pipeline=own_pipeline(model, TEXTS),
        )
    )


def test_latents_are_shifted_before_they_are_scaled(folder: Path) -> None:
    """(z - .1) 1.5 by this VAE's config, of the mode of the VAE's posterior for 2 x - 1."""
    model = load_model(folder)
    raw = torch.tensor([[[[0.0, 0.1]], [[1.1, -0.9]]]])
    expected = torch.tensor([[[[-0.15, 0.0]], [[1.5, -1.5]]]])
    torch.testing.assert_close(model.normalize(raw), expected)
    torch.testing.assert_close(model.denormalize(expected), raw)
    media = torch.rand((1, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mode = model.vae.encode(2 * media - 1).latent_dist.mode()
        pixels = model.vae.decode(mode, return_dict=False)[0]
    torch.testing.assert_close(model.encode_media(media), (mode - 0.1) * 1.5)
    decoded = model.decode((mode - 0.1) * 1.5)
    torch.testing.assert_close(decoded, (pixels / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)


def test_no_part_of_a_network_drops_out(folder: Path) -> None:
    """Neither of a pipeline that was left in training mode, nor where activations are made again.

    For these diffusers asks for the training mode of the network as a whole.
    """
    pipeline = load_model(folder).pipeline
    pipeline.transformer.dropout = torch.nn.Dropout(0.5)
    for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder):
        part.train()
    model = SD3(pipeline)
    parts = (pipeline.transformer, pipeline.vae, pipeline.text_encoder)
    assert not any(module.training for part in parts for module in part.modules())
    model.enable_gradient_checkpointing()
    assert pipeline.transformer.training
    assert not pipeline.transformer.dropout.training


def test_a_linear_time_shift_is_mu_itself(folder: Path) -> None:
    """From .5 at 256 tokens to 1.5 at 1024: 1 at 640."""
    model = load_model(folder)
    model.pipeline.scheduler.register_to_config(
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.5,
        base_image_seq_len=256,
        max_image_seq_len=1024,
        time_shift_type="linear",
    )
    assert model.time_shift((4, 20, 32)) == pytest.approx(1.0)
    model.pipeline.scheduler.register_to_config(time_shift_type="exponential")
    assert model.time_shift((4, 20, 32)) == pytest.approx(math.e)
