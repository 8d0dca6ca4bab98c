"""Parts of a tiny random LTX-2 pipeline."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
from tests.models.families.tiny import ltx_scheduler, random
from tokenizers.processors import TemplateProcessing
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, GemmaTokenizer


def tokenizer() -> GemmaTokenizer:
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *map(chr, range(33, 127))]
    made = GemmaTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=2048)
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)]
    )
    return made


def text_encoder() -> Gemma3ForConditionalGeneration:
    config = Gemma3Config(
        text_config={
            "vocab_size": 110,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "layer_types": ["sliding_attention", "full_attention"],
            "initializer_range": 0.5,
        },
        vision_config={
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        mm_tokens_per_image=4,
        image_token_index=109,
    )
    return Gemma3ForConditionalGeneration(config)


def video_vae() -> AutoencoderKLLTX2Video:
    vae = AutoencoderKLLTX2Video(
        latent_channels=8,
        block_out_channels=(8, 8),
        down_block_types=("LTX2VideoDownBlock3D",) * 2,
        decoder_block_out_channels=(8, 16),  # halved by each upsampling
        layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        spatio_temporal_scaling=(True, True),
        decoder_spatio_temporal_scaling=(True, True),
        decoder_inject_noise=(False,) * 3,
        downsample_type=("spatiotemporal",) * 2,
        upsample_type=("spatiotemporal",) * 2,
        upsample_residual=(True,) * 2,
        upsample_factor=(2, 2),
        patch_size=1,
        decoder_causal=False,
        scaling_factor=0.7,
    )
    torch.nn.init.normal_(vae.latents_mean)
    torch.nn.init.uniform_(vae.latents_std, 0.5, 2)
    return vae


def build_pipeline(_: Any = None, *, newer: bool) -> LTX2Pipeline:
    """A pipeline; ``newer`` as from version 2.3: gates, modulated text, connectors of their own."""
    transformer = random(
        LTX2VideoTransformer3DModel,
        in_channels=8,
        out_channels=8,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        vae_scale_factors=(4, 4, 4),
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=4,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=16,
        num_layers=2,
        caption_channels=16,
        rope_type="split",
        gated_attn=newer,
        audio_gated_attn=newer,
        cross_attn_mod=newer,
        audio_cross_attn_mod=newer,
        perturbed_attn=newer,
        use_prompt_embeddings=not newer,
    )
    connectors = random(
        LTX2TextConnectors,
        caption_channels=16,
        text_proj_in_factor=3,
        video_connector_num_attention_heads=4 if newer else 2,
        video_connector_attention_head_dim=8,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None if newer else 128,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=8,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None if newer else 128,
        rope_type="split",
        per_modality_projections=newer,
        video_hidden_dim=32,
        audio_hidden_dim=16,
    )
    return LTX2Pipeline(
        scheduler=ltx_scheduler(),
        vae=random(video_vae),
        audio_vae=random(
            AutoencoderKLLTX2Audio,
            base_channels=4,
            ch_mult=(1,),
            num_res_blocks=1,
            resolution=32,
            latent_channels=2,
            mel_bins=8,
        ),
        text_encoder=random(text_encoder),
        tokenizer=tokenizer(),
        connectors=connectors,
        transformer=transformer,
        vocoder=random(
            LTX2Vocoder,
            in_channels=16,
            hidden_channels=8,
            upsample_kernel_sizes=[4],
            upsample_factors=[2],
            resnet_kernel_sizes=[3],
            resnet_dilations=[[1]],
        ),
    )
