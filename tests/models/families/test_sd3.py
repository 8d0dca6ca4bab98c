"""SD3 over a tiny random pipeline, saved and loaded as a user's would be."""

from __future__ import annotations

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

from ddrl.models.pretrained import load_model
from ddrl.models.sd3 import SD3
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
