"""A tiny random AuraFlow: a pipeline that ddrl has no adapter for."""

from __future__ import annotations

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
)
from tests.models.families.tiny import t5_tokenizer
from transformers import UMT5Config, UMT5EncoderModel


def build_pipeline() -> AuraFlowPipeline:
    tokenizer = t5_tokenizer(256)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AuraFlowPipeline(
            tokenizer=tokenizer,
            text_encoder=UMT5EncoderModel(
                UMT5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
            ),
            vae=AutoencoderKL(
                block_out_channels=(8, 16),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                latent_channels=4,
                norm_num_groups=4,
                scaling_factor=1.5,
            ),
            transformer=AuraFlowTransformer2DModel(
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
