"""LTX-Video over tiny random pipelines, from text and from a given first frame."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    LTXImageToVideoPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from tests.models.families.cases import Call, Case, decoded
from tests.models.families.checks import Checks, FirstFrameChecks
from tests.models.families.ltx import ltx_checks
from tests.models.families.tiny import fill_zeros, ltx_scheduler, seeded, t5_encoder, t5_tokenizer
from torch import Tensor

from ddrl.models.families.ltx_video import LTXVideo


def build_pipeline(_: Any = None, *, conditioned: bool) -> LTXPipeline:
    """A pipeline; ``conditioned`` as from version 0.9.1: the decoder takes a time and has noise."""
    with seeded():
        transformer = LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=4,
            attention_head_dim=8,
            cross_attention_dim=32,
            num_layers=1,
            caption_channels=32,
        )
        vae = AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            decoder_inject_noise=(conditioned,) * 5,
            timestep_conditioning=conditioned,
            patch_size=1,
            patch_size_t=1,
            scaling_factor=0.7,
        )
        torch.nn.init.normal_(vae.latents_mean)
        torch.nn.init.uniform_(vae.latents_std, 0.5, 2)
        fill_zeros(vae, std=0.1)
    return LTXPipeline(
        scheduler=ltx_scheduler(),
        vae=vae,
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=transformer,
    )


def build_i2v(_: Any = None) -> LTXImageToVideoPipeline:
    return LTXImageToVideoPipeline(**build_pipeline(conditioned=True).components)


def pack(latents: Tensor) -> Tensor:
    packed: Tensor = LTXPipeline._pack_latents(latents)
    return packed


def own(model: Any, call: Call, **settings: Any) -> Tensor:
    """The pipeline's own call; it takes no times, but makes a uniform grid of them."""
    clip = ltx_checks.whole(model, call)
    tokens = call.latents(
        model,
        latents=pack(clip),
        sigmas=None,
        num_inference_steps=len(call.times),
        guidance_scale=call.guidance,
        **settings,
    )
    made: Tensor = LTXPipeline._unpack_latents(tokens, *clip.shape[2:])
    return ltx_checks.generated(model, made, clip)


def case(name: str, build: Any, **more: Any) -> Case:
    mine = {
        "lora": 2 * 4,  # one block, self- and cross-attention
        "limit": 128,
        "embeds": (128, 32),
        "lengths": (1, 128),
    }
    return Case(name, build, LTXVideo, own, **(ltx_checks.SHARED | mine | more))


CASES = [
    case("first", partial(build_pipeline, conditioned=False), decodes=decoded(pack)),
    # Another decoder, and so the network's own checks once.
    case(
        "conditioned",
        partial(build_pipeline, conditioned=True),
        lora=None,
        limit=None,
        guided=False,
        decodes=decoded(pack),
    ),
    case("i2v", build_i2v, **ltx_checks.GIVEN),
]


class TestLTXVideo(Checks, ltx_checks.Checks):
    """The shared checks."""

    rate = 25


class TestFirstFrames(FirstFrameChecks, ltx_checks.GivenChecks):
    """The shared checks of given frames."""

    text = LTXPipeline
