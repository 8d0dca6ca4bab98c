"""A tiny random AuraFlow: a pipeline that ddrl has no adapter for."""

from __future__ import annotations

from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
)
from tests.models.families.tiny import autoencoder_kl, random, t5_encoder, t5_tokenizer
from transformers import UMT5Config, UMT5EncoderModel


def build_pipeline() -> AuraFlowPipeline:
    tokenizer = t5_tokenizer(256)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return AuraFlowPipeline(
        tokenizer=tokenizer,
        text_encoder=t5_encoder(kind=UMT5EncoderModel, config=UMT5Config),
        vae=random(autoencoder_kl, scaling_factor=1.5),
        transformer=random(
            AuraFlowTransformer2DModel,
            sample_size=16,
            patch_size=2,
            in_channels=4,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=32,
            caption_projection_dim=32,
            pos_embed_max_size=256,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
    )
