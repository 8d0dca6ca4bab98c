"""SD3 over a tiny random pipeline, saved and loaded as a user's would be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tests.models.families.cases import Case, decoded
from tests.models.families.checks import Checks
from tests.models.families.tiny import (
    autoencoder_kl,
    clip_text_model,
    clip_tokenizer,
    pixels,
    seeded,
    t5_encoder,
    t5_tokenizer,
)

from ddrl.models.families.sd3 import SD3


def build_pipeline(folder: Path) -> StableDiffusion3Pipeline:
    with seeded():
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
        vae = autoencoder_kl(scaling_factor=1.5, shift_factor=0.1)
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


CASES = [
    Case(
        "sd3",
        build_pipeline,
        SD3,
        lambda model, call: call.latents(model, guidance_scale=call.guidance),
        lora=2 * 8 - 1,  # what the last block makes of the text goes nowhere
        limit=256,
        embeds=(77 + 256, 32),  # of CLIP, and of T5 behind it
        sizes={(2, 4, 1): (4, 1, 2)},
        refused={(3, 4, 1): "multiples of 2"},
        shifts={(4, 8, 8): 3.0},
        decodes=decoded(),
    )
]


class TestSD3(Checks):
    """The shared checks."""


def test_latents_are_shifted_before_they_are_scaled(model: SD3) -> None:
    """(z - .1) 1.5 by this VAE's config, of the mode of the VAE's posterior for 2 x - 1."""
    raw = torch.tensor([[[[0.0, 0.1]], [[1.1, -0.9]]]])
    expected = torch.tensor([[[[-0.15, 0.0]], [[1.5, -1.5]]]])
    torch.testing.assert_close(model.normalize(raw), expected)
    torch.testing.assert_close(model.denormalize(expected), raw)
    media = pixels(1, 3, 8, 8)
    with torch.no_grad():
        mode = model.vae.encode(2 * media - 1).latent_dist.mode()
        shown = model.vae.decode(mode, return_dict=False)[0]
    torch.testing.assert_close(model.encode_media(media), (mode - 0.1) * 1.5)
    decoded = model.decode((mode - 0.1) * 1.5)
    torch.testing.assert_close(decoded, (shown / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)


def test_no_part_of_a_network_drops_out(fresh: Any) -> None:
    """Neither of a pipeline that was left in training mode, nor where activations are made again.

    For these diffusers asks for the training mode of the network as a whole.
    """
    pipeline = fresh.pipeline
    pipeline.transformer.dropout = torch.nn.Dropout(0.5)
    for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder):
        part.train()
    model = SD3(pipeline)
    parts = (pipeline.transformer, pipeline.vae, pipeline.text_encoder)
    assert not any(module.training for part in parts for module in part.modules())
    model.enable_gradient_checkpointing()
    assert pipeline.transformer.training
    assert not pipeline.transformer.dropout.training


def test_a_linear_time_shift_is_mu_itself(fresh: Any) -> None:
    """From .5 at 256 tokens to 1.5 at 1024: 1 at 640."""
    scheduler = fresh.pipeline.scheduler
    scheduler.register_to_config(
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.5,
        base_image_seq_len=256,
        max_image_seq_len=1024,
        time_shift_type="linear",
    )
    assert fresh.time_shift((4, 20, 32)) == pytest.approx(1.0)
    scheduler.register_to_config(time_shift_type="exponential")
    assert fresh.time_shift((4, 20, 32)) == pytest.approx(math.e)
