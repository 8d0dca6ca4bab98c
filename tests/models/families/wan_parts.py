"""Tiny random parts of the Wan pipelines, and the pipelines' own sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanTransformer3DModel,
)
from tests.models.families.tiny import t5_tokenizer
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from ddrl.models.families.wan.text_to_video import Wan

TEXTS = ["a cat walks on the grass", ""]
SHIFT = 3.0


def times(shift: float = SHIFT) -> list[float]:
    """The grid of 4 steps that the pipelines use, the final 0 included."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(4)
    return scheduler.sigmas.tolist()


def transformer(*, seed: int = 0, **settings: Any) -> WanTransformer3DModel:
    config = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": 32,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": 2,
        "rope_max_seq_len": 32,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WanTransformer3DModel(**{**config, **settings}).eval()


def vae(*, z_dim: int = 4, **settings: Any) -> AutoencoderKLWan:
    """Random, with statistics that a forgotten normalization would show in."""
    config = {
        "base_dim": 3,
        "z_dim": z_dim,
        "dim_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
        "latents_mean": [0.1 * c for c in range(z_dim)],
        "latents_std": [1.5 - 0.1 * c for c in range(z_dim)],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return AutoencoderKLWan(**{**config, **settings}).eval()


def text_parts() -> dict[str, Any]:
    """Components that are the same in every Wan pipeline."""
    config = UMT5Config(
        vocab_size=300,
        d_model=32,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        encoder = UMT5EncoderModel(config).eval()
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT
    )
    return {"tokenizer": t5_tokenizer(512), "text_encoder": encoder, "scheduler": scheduler}


def sample(
    model: Wan, texts: Sequence[str], noise: Tensor, *, shift: float = SHIFT, **options: Any
) -> Tensor:
    """What the pipeline makes of the noise with Euler steps instead of its multistep ones."""
    pipeline = model.pipeline
    pipeline.set_progress_bar_config(disable=True)
    kept = pipeline.scheduler
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    factor = model.spatial_factor
    try:
        latents: Tensor = pipeline(
            prompt=list(texts),
            num_inference_steps=4,
            guidance_scale=1.0,
            num_frames=1 + (noise.shape[2] - 1) * 4,
            height=noise.shape[3] * factor,
            width=noise.shape[4] * factor,
            latents=noise,
            output_type="latent",
            **options,
        ).frames
    finally:
        pipeline.scheduler = kept
    return latents


def pixels(*shape: int, seed: int = 1) -> Tensor:
    """Random pixels as an image file has them, multiples of 1 / 255."""
    levels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))
    return levels.float() / 255
