"""FLUX.1 over tiny random pipelines, saved and loaded as a user's would be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from tests.models.families.tiny import clip_text_model, clip_tokenizer, t5_encoder, t5_tokenizer
from torch import Tensor

from ddrl.builders.identity import encoder_hash, weights_hash
from ddrl.builders.pretrained import adapt
from ddrl.diffusion.schedule import time_grid
from ddrl.errors import DataError, UsageError
from ddrl.models.families.flux import Flux, FluxCondition
from ddrl.models.lora.adapter import LoRASettings, add_lora, lora_disabled
from ddrl.models.pretrained import load_model
from ddrl.recipe import parse_recipe
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward
from ddrl.training.rollout import sample_ode

TEXTS = ["a cat holding a sign", ""]


def build_pipeline(folder: Path, *, guidance_embeds: bool) -> FluxPipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = FluxTransformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance_embeds,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 16),
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
            up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
            latent_channels=4,
            norm_num_groups=4,
            scaling_factor=1.5,
            shift_factor=0.1,
        )
    return FluxPipeline(
        transformer=transformer,
        # As in the released folders of [dev] and [schnell].
        scheduler=FlowMatchEulerDiscreteScheduler(
            shift=3.0 if guidance_embeds else 1.0, use_dynamic_shifting=guidance_embeds
        ),
        vae=vae,
        text_encoder=clip_text_model(projection=False),
        tokenizer=clip_tokenizer(folder / "clip"),
        text_encoder_2=t5_encoder(seed=1),
        tokenizer_2=t5_tokenizer(512),
    )


@pytest.fixture(scope="module", params=["dev", "schnell"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("flux")
    pipeline = build_pipeline(made, guidance_embeds=request.param == "dev")
    pipeline.save_pretrained(made / request.param)
    return made / str(request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> Flux:
    loaded = load_model(folder)
    assert isinstance(loaded, Flux)
    loaded.pipeline.set_progress_bar_config(disable=True)
    return loaded


def packed(x: Tensor) -> Tensor:
    return FluxPipeline._pack_latents(x, *x.shape)


def own_pipeline(model: Flux, texts: Sequence[str], **settings: Any) -> Any:
    def run(noise: Tensor, times: Sequence[float]) -> Tensor:
        pipeline = model.pipeline
        own, pipeline.scheduler = pipeline.scheduler, FlowMatchEulerDiscreteScheduler(shift=1.0)
        height, width = noise.shape[2] * 2, noise.shape[3] * 2
        latents = pipeline(
            prompt=list(texts),
            sigmas=list(times),
            height=height,
            width=width,
            latents=packed(noise),
            output_type="latent",
            **settings,
        ).images
        pipeline.scheduler = own
        unpacked: Tensor = FluxPipeline._unpack_latents(latents, height, width, 2)
        return unpacked

    return run


def test_conformance(model: Flux) -> None:
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(TEXTS),
            latent_shape=model.latent_shape(16, 32),
            media=torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(1)),
            pipeline=own_pipeline(model, TEXTS),
        )
    )


def test_guidance_of_two_passes_is_the_pipelines(model: Flux) -> None:
    noise = torch.randn(2, *model.latent_shape(16, 16), generator=torch.Generator().manual_seed(2))
    ours = sample_ode(
        Forward(model, guidance=2.5),
        model.encode(TEXTS),
        noise,
        times=torch.tensor([1.0, 0.6, 0.3, 0.0]),
        solver="euler",
    )
    run = own_pipeline(model, TEXTS, true_cfg_scale=2.5, negative_prompt=["", ""])
    torch.testing.assert_close(ours, run(noise, [1.0, 0.6, 0.3]), rtol=0, atol=1e-4)


def test_embedded_guidance(model: Flux) -> None:
    heard = model.pipeline.transformer.config.guidance_embeds
    assert model.embedded_guidance == (3.5 if heard else None)
    noise = torch.randn(2, *model.latent_shape(16, 16), generator=torch.Generator().manual_seed(2))
    condition, times = model.encode(TEXTS), torch.tensor([1.0, 0.0])
    ours, hashes = {}, {weights_hash(model)}
    for guidance in (1.0, 3.5) if heard else (None,):
        model.embedded_guidance = guidance
        ours[guidance] = sample_ode(Forward(model), condition, noise, times=times, solver="euler")
        theirs = own_pipeline(model, TEXTS, guidance_scale=guidance or 3.5)(noise, [1.0])
        torch.testing.assert_close(ours[guidance], theirs, rtol=0, atol=1e-4)
        hashes.add(weights_hash(model))  # by which samples of the base are found again
    assert not heard or not torch.equal(ours[1.0], ours[3.5])
    assert len(hashes) == len(ours)


def test_a_recipe_sets_the_embedded_guidance(model: Flux) -> None:
    known = model.embedded_guidance
    adapt_with(model, 0.0)
    assert model.embedded_guidance == known
    encoder = encoder_hash(model)
    if known is None:
        with pytest.raises(UsageError, match=r"is 2, but the network of this Flux is told no"):
            adapt_with(model, 2.0)
        return
    adapt_with(model, 2.0)
    assert model.embedded_guidance == 2.0
    assert encoder_hash(model) == encoder  # data need not be encoded again
    model.embedded_guidance = known


def adapt_with(model: Flux, scale: float) -> None:
    """Make the model what a recipe of this scale trains."""
    text = """
        [model]
        family = "diffusers"
        path = "x"
        [data]
        source = "prompts"
        path = "x"
        anchor = "synthetic"
        [[reward]]
        name = "ink"
    """
    adapt(parse_recipe(text, overrides=[f"model.embedded_guidance={scale}"]), model)


def test_decoding_is_the_pipelines(model: Flux) -> None:
    noise = torch.randn(1, *model.latent_shape(16, 32), generator=torch.Generator().manual_seed(3))
    images = model.pipeline(
        prompt="an owl",
        sigmas=[1.0, 0.5],
        height=16,
        width=32,
        latents=packed(noise),
        output_type="pt",
    ).images
    sigmas = model.pipeline.scheduler.sigmas
    condition = model.encode(["an owl"])
    latents = sample_ode(Forward(model), condition, noise, times=sigmas, solver="euler")
    torch.testing.assert_close(model.decode(latents, condition), images, rtol=0, atol=1e-4)


@torch.no_grad()
def test_texts_of_any_length(model: Flux) -> None:
    texts = ["", "x" * 300, "x" * 511 + "y", "x" * 511 + "z", "short"]
    together = model.encode(texts)
    assert isinstance(together, FluxCondition)
    assert together.embeds.shape == (5, 512, 32)
    torch.testing.assert_close(together.embeds[2], together.embeds[3])  # both cut off
    assert not torch.allclose(together.embeds[1], together.embeds[2])  # 300 are not
    theirs, pooled, _ = model.pipeline.encode_prompt(prompt=texts)
    torch.testing.assert_close(together.embeds, theirs)
    torch.testing.assert_close(together.pooled, pooled)
    model.max_text_tokens = 256
    shorter = model.encode(["a"])
    assert isinstance(shorter, FluxCondition)
    assert shorter.embeds.shape == (1, 256, 32)
    model.max_text_tokens = 512


def test_sizes_are_even_in_latents(model: Flux) -> None:
    assert model.latent_shape(4, 8) == (4, 2, 4)
    with pytest.raises(DataError, match="multiples of 4"):
        model.latent_shape(6, 8)


def test_shift_is_the_pipelines(model: Flux) -> None:
    noise = torch.randn(1, *model.latent_shape(32, 64), generator=torch.Generator().manual_seed(3))
    model.pipeline(
        prompt="a",
        num_inference_steps=4,
        height=32,
        width=64,
        latents=packed(noise),
        output_type="latent",
    )
    shift = model.time_shift((4, 16, 32))
    theirs = model.pipeline.scheduler.sigmas.double()
    torch.testing.assert_close(time_grid(4, shift=shift), theirs, rtol=0, atol=1e-6)
    if model.pipeline.scheduler.config.use_dynamic_shifting:
        assert model.time_shift((16, 128, 128)) == pytest.approx(math.exp(1.15))  # 1024 pixels
    else:
        assert shift == 1.0


@torch.no_grad()
def test_lora(folder: Path) -> None:
    model = load_model(folder)
    x, t, condition = torch.ones(1, 4, 4, 4), torch.tensor([0.5]), model.encode(["a"])
    before = model.predict(x, t, condition)
    number = add_lora(model.transformer, LoRASettings(rank=2), targets=model.lora_targets)
    assert number == 2 * 12 + 3  # two blocks of two streams, one of one
    for name, parameter in model.transformer.named_parameters():
        if "lora_B" in name:
            parameter.fill_(0.1)
    assert not torch.equal(model.predict(x, t, condition), before)
    with lora_disabled(model.transformer):
        assert torch.equal(model.predict(x, t, condition), before)
