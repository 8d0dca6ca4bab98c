"""Tiny random parts of the Wan pipelines, and the pipelines' own sampling."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from tests.models.families.cases import Call, Case
from tests.models.families.tiny import pixels, random, t5_encoder, t5_tokenizer
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from ddrl.models.adapter.source_images import as_pictures

__all__ = ["AGAIN", "TEXTS", "case", "pixels", "text_parts", "text_pipeline", "transformer", "vae"]

TEXTS = ["a cat walks on the grass", ""]
SHIFT = 3.0
AGAIN: dict[str, Any] = {"lora": None, "limit": None, "guided": False}
"""Of a case whose texts, adapter and pipeline's guidance another one shows."""


def times() -> tuple[float, ...]:
    """The grid of 4 steps that the pipelines use, the final 0 included."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    scheduler.set_timesteps(4)
    return tuple(scheduler.sigmas.tolist())


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
    made: WanTransformer3DModel = random(WanTransformer3DModel, seed=seed, **{**config, **settings})
    return made


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
    made: AutoencoderKLWan = random(AutoencoderKLWan, seed=1, **{**config, **settings})
    return made


def text_parts() -> dict[str, Any]:
    """Components that are the same in every Wan pipeline."""
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT
    )
    encoder = t5_encoder(seed=2, kind=UMT5EncoderModel, config=UMT5Config)
    return {"tokenizer": t5_tokenizer(512), "text_encoder": encoder, "scheduler": scheduler}


def text_pipeline(_: Any = None, **settings: Any) -> WanPipeline:
    """Wan2.1 from text to video, or with these parts beside its own."""
    return WanPipeline(**{"transformer": transformer(), "vae": vae(), **text_parts(), **settings})


def own(model: Any, call: Call) -> Tensor:
    """What the pipeline makes of the noise with Euler steps instead of its multistep ones."""
    steps = {"sigmas": None, "num_inference_steps": len(call.times)}
    if call.given is None:
        return call.latents(model, shift=SHIFT, guidance_scale=call.guidance, **steps)
    rows = []
    for row in call.rows():  # it takes one picture a call
        assert row.given is not None
        num, given = model.given_latents, model.encode_given(row.given, frames=call.case.size[2])
        anything = torch.full_like(row.noise[:, :, :num], 7.0)  # which must not matter
        made = row.latents(
            model,
            shift=SHIFT,
            latents=torch.cat([anything, row.noise], dim=2),
            guidance_scale=call.guidance,
            image=as_pictures(row.given[0])[0],
            **steps,
        )
        torch.testing.assert_close(made[:, :, :num], given["given"][:, :, :num])
        rows.append(made[:, :, num:])
    return torch.cat(rows)


def case(name: str, build: Any, adapter: Any, **more: Any) -> Case:
    """A case of Wan, of clips of 9 frames."""
    shared: dict[str, Any] = {
        "lora": 2 * 10,
        "limit": 512,
        "embeds": (512, 32),
        "lengths": (1, 512),  # with the end token
        "sizes": {(16, 16, 1): (4, 1, 2, 2), (480, 832, 81): (4, 21, 60, 104)},
        "refused": {
            (24, 16, 1): "multiples of 16",
            (16, 16, 8): r"1 \+ a multiple of 4 frames, not 8",
        },
        "shifts": {(4, 3, 2, 4): SHIFT},
        "size": (16, 32, 9),
        "texts": TEXTS,
        "times": times(),
        "guided_times": times(),
    }
    return Case(name, build, adapter, own, **(shared | more))
