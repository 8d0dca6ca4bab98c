"""Z-Image over a tiny random pipeline, saved and loaded as a user's would be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tests.models.families.tiny import t5_tokenizer
from torch import Tensor
from transformers import Qwen3Config, Qwen3Model

from ddrl.models.families.z_image import ZImage, ZImageCondition
from ddrl.models.lora.adapter import LoRASettings, add_lora
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward
from ddrl.training.rollout import sample_ode

# Of lengths that fill different numbers of the network's blocks of 32 tokens, and an empty one.
TEXTS = ["a cat holding a sign that says " + "hello " * 8, "", "an owl"]
TEMPLATE = "{% for m in messages %}<user>{{ m['content'] }}{% endfor %}<assistant>"


def build_pipeline() -> ZImagePipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[8, 4, 4],
            axes_lens=[1024, 64, 64],
        )
        for parameter in transformer.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        vae = AutoencoderKL(
            block_out_channels=(8, 16),
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
            up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
            latent_channels=4,
            norm_num_groups=4,
            scaling_factor=0.3611,
            shift_factor=0.1159,
        )
        text_encoder = Qwen3Model(
            Qwen3Config(
                vocab_size=300,
                hidden_size=16,
                head_dim=8,
                intermediate_size=32,
                num_attention_heads=2,
                num_key_value_heads=2,
                num_hidden_layers=2,
            )
        ).eval()
    tokenizer = t5_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("z_image") / "model"
    build_pipeline().save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> ZImage:
    loaded = load_model(folder)
    assert isinstance(loaded, ZImage)
    return loaded


def own_pipeline(model: ZImage, texts: Sequence[str], guidance: float = 0.0) -> Any:
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
            output_type="latent",
        ).images
        model.pipeline.scheduler = scheduler
        return latents

    return run


def test_conformance(model: ZImage) -> None:
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(TEXTS),
            latent_shape=model.latent_shape(16, 24),
            media=torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(1)),
            pipeline=own_pipeline(model, TEXTS),
        )
    )


def test_guidance_is_the_pipelines_plus_one(model: ZImage) -> None:
    noise = torch.randn(3, *model.latent_shape(16, 16), generator=torch.Generator().manual_seed(2))
    times = [1.0, 0.6, 0.3, 0.0]
    ours = sample_ode(
        Forward(model, guidance=1 + 2.5),
        model.encode(TEXTS),
        noise,
        times=torch.tensor(times),
        solver="euler",
    )
    theirs = own_pipeline(model, TEXTS, guidance=2.5)(noise, times[:-1])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_lengths_of_texts(model: ZImage) -> None:
    texts = ["", "x" * 600, "x" * 601, "x" * 300]
    together = model.encode(texts)
    assert isinstance(together, ZImageCondition)
    assert together.embeds.shape == (4, 512, 16)
    assert together.length[1:3].tolist() == [512, 512]
    torch.testing.assert_close(together.embeds[1], together.embeds[2])  # both cut off
    assert 300 < together.length[3] < 512
    assert 0 < together.length[0] < 32  # the chat template alone
    assert not together.embeds[0, together.length[0] :].any()


def test_sizes_and_shift(model: ZImage) -> None:
    assert model.latent_shape(4, 4) == (4, 2, 2)
    assert model.time_shift((4, 8, 8)) == 3.0
    assert model.num_tokens((4, 8, 12)) == 4 * 6


def test_lora_is_bound(folder: Path) -> None:
    model = load_model(folder)
    number = add_lora(model.transformer, LoRASettings(rank=2), targets=model.lora_targets)
    assert number == 4 * (2 + 1 + 1)  # layers, and the refiners of noise and text
