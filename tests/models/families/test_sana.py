"""SANA over a tiny random pipeline, saved and loaded as a user's would be."""

from __future__ import annotations

from typing import Any

from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    SanaPipeline,
    SanaTransformer2DModel,
)
from tests.models.families.cases import Case, decoded
from tests.models.families.checks import Checks
from tests.models.families.tiny import SMALL, seeded, t5_tokenizer
from transformers import Gemma2Config, Gemma2Model

from ddrl.models.families.sana import Sana


def build_pipeline(_: Any = None) -> SanaPipeline:
    with seeded():
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
        config = Gemma2Config(
            **SMALL, num_hidden_layers=1, pad_token_id=0, attn_implementation="eager"
        )
        encoder = Gemma2Model(config).eval()
    return SanaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=encoder,
        vae=vae,
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
        ),
    )


CASES = [
    Case(
        "sana",
        build_pipeline,
        Sana,
        lambda model, call: call.latents(
            model, guidance_scale=call.guidance, use_resolution_binning=False
        ),
        lora=2 * 2 * 4,  # two blocks, self- and cross-attention
        limit=300,
        embeds=(300, 16),
        lengths=(1, 300),  # the end token alone: no instruction before the empty text
        sizes={(2, 2, 1): (4, 1, 1)},
        shifts={(4, 8, 8): 3.0},
        size=(32, 64, 1),
        texts=("a cat holding a sign", "An Owl"),
        guidance=4.5,
        decodes=decoded(use_resolution_binning=False, guidance_scale=1.0),
    )
]


class TestSana(Checks):
    """The shared checks."""
