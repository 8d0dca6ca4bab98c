"""SANA over a tiny random pipeline, saved and loaded as a user's would be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SanaPipeline,
    SanaTransformer2DModel,
)
from tests.models.families.tiny import t5_tokenizer
from torch import Tensor
from transformers import Gemma2Config, Gemma2Model

from ddrl.models.families.sana import Sana, SanaCondition
from ddrl.models.lora.adapter import LoRASettings, add_lora
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward
from ddrl.training.rollout import sample_ode

TEXTS = ["a cat holding a sign", "An Owl"]


def build_pipeline() -> SanaPipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = SanaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=16,
            sample_size=32,
            timestep_scale=0.5,  # so that ignoring it is seen; released models have 1
        )
        vae = AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            scaling_factor=0.41407,
        )
        text_encoder = Gemma2Model(
            Gemma2Config(
                vocab_size=300,
                hidden_size=16,
                head_dim=8,
                intermediate_size=32,
                num_attention_heads=2,
                num_key_value_heads=2,
                num_hidden_layers=1,
                pad_token_id=0,
                attn_implementation="eager",
            )
        ).eval()
    return SanaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=text_encoder,
        vae=vae,
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
        ),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sana") / "model"
    build_pipeline().save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Sana:
    loaded = load_model(folder)
    assert isinstance(loaded, Sana)
    return loaded


def own_pipeline(model: Sana, texts: Sequence[str], guidance: float = 1.0) -> Any:
    def run(noise: Tensor, times: Sequence[float]) -> Tensor:
        scheduler = model.pipeline.scheduler
        model.pipeline.set_progress_bar_config(disable=True)
        model.pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
        latents: Tensor = model.pipeline(
            prompt=list(texts),
            sigmas=list(times),
            guidance_scale=guidance,
            height=noise.shape[2] * 2,
            width=noise.shape[3] * 2,
            latents=noise,
            use_resolution_binning=False,
            output_type="latent",
        ).images
        model.pipeline.scheduler = scheduler
        return latents

    return run


def test_conformance(model: Sana) -> None:
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(TEXTS),
            latent_shape=model.latent_shape(32, 64),
            media=torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(1)),
            pipeline=own_pipeline(model, TEXTS),
        )
    )


def test_guidance_with_the_empty_text_is_the_pipelines(model: Sana) -> None:
    noise = torch.randn(2, *model.latent_shape(32, 32), generator=torch.Generator().manual_seed(2))
    times = [1.0, 0.6, 0.3, 0.0]
    ours = sample_ode(
        Forward(model, guidance=4.5),
        model.encode(TEXTS),
        noise,
        times=torch.tensor(times),
        solver="euler",
    )
    theirs = own_pipeline(model, TEXTS, guidance=4.5)(noise, times[:-1])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_texts_are_cut_off_and_the_empty_one_is_bare(model: Sana) -> None:
    texts = ["", "x" * 3000, "x" * 3001]
    together = model.encode(texts)
    assert isinstance(together, SanaCondition)
    assert together.embeds.shape == (3, 300, 16)
    torch.testing.assert_close(together.embeds[1], together.embeds[2])  # both cut off
    assert together.mask.sum(1)[0] == 1  # the end token alone: no instruction before it


def test_sizes_and_shift(model: Sana) -> None:
    assert model.latent_shape(2, 2) == (4, 1, 1)
    assert model.time_shift((4, 8, 8)) == 3.0


def test_lora_is_bound(folder: Path) -> None:
    model = load_model(folder)
    number = add_lora(model.transformer, LoRASettings(rank=2), targets=model.lora_targets)
    assert number == 2 * 2 * 4  # two blocks, self- and cross-attention
