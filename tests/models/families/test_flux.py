"""FLUX.1 and its editor Kontext over tiny random pipelines, saved and loaded as a user's."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)
from tests.models.families.cases import EDITS, Call, Case, ask, decoded, only
from tests.models.families.checks import Checks, GivenChecks
from tests.models.families.tiny import (
    autoencoder_kl,
    clip_text_model,
    clip_tokenizer,
    noise,
    seeded,
    strengthen,
    t5_encoder,
    t5_tokenizer,
)
from torch import Tensor

from ddrl.builders.identity import encoder_hash, weights_hash
from ddrl.builders.pretrained import adapt
from ddrl.diffusion.schedule import time_grid
from ddrl.errors import DataError, UsageError
from ddrl.models.families.flux import Flux, FluxKontext
from ddrl.recipe import parse_recipe
from ddrl.training.forward import Forward
from ddrl.training.rollout import sample_ode


def build_pipeline(folder: Path, *, guidance_embeds: bool) -> FluxPipeline:
    with seeded():
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
        vae = autoencoder_kl(scaling_factor=1.5, shift_factor=0.1)
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


def build_kontext(folder: Path) -> FluxKontextPipeline:
    pipeline = build_pipeline(folder, guidance_embeds=True)
    strengthen(pipeline.transformer, pipeline.vae)
    return FluxKontextPipeline(**pipeline.components)


def packed(x: Tensor) -> Tensor:
    return FluxPipeline._pack_latents(x, *x.shape)


def own(model: Any, call: Call, **settings: Any) -> Tensor:
    """The pipeline's own call; of Kontext with the source images."""
    if call.guidance != 1:
        settings |= {"true_cfg_scale": call.guidance, "negative_prompt": [""] * len(call.texts)}
    if call.given is not None:
        settings |= {"image": call.given[:, 0], **model.size_arguments(call.height, call.width)}
    latents = call.latents(model, latents=packed(call.noise), **settings)
    unpacked: Tensor = FluxPipeline._unpack_latents(latents, call.height, call.width, 2)
    return unpacked


def case(name: str, build: Any, adapter: Any, shifts: Any, **more: Any) -> Case:
    mine: dict[str, Any] = {
        "lora": 2 * 12 + 3,  # two blocks of two streams, one of one
        "limit": 512,
        "embeds": (512, 32),
        "sizes": {(4, 8, 1): (4, 2, 4)},
        "refused": {(6, 8, 1): "multiples of 4"},
        "guidance": 2.5,
    }
    return Case(name, build, adapter, own, shifts=shifts, **(mine | more))


DYNAMIC = {(16, 128, 128): math.exp(1.15)}  # 1024 pixels
CASES = [
    case(
        "dev",
        partial(build_pipeline, guidance_embeds=True),
        Flux,
        DYNAMIC,
        decodes=decoded(packed),
    ),
    case(
        "schnell",
        partial(build_pipeline, guidance_embeds=False),
        Flux,
        {(4, 16, 32): 1.0},
        decodes=decoded(packed),
    ),
    case(
        "kontext",
        build_kontext,
        FluxKontext,
        DYNAMIC,
        lora=None,
        limit=None,
        texts=EDITS,
        given=1,
        given_sizes=[(16, 32), (32, 16)],  # as the result, and of another shape
        told="Editing needs a source image",
        too_many="takes 1 source image per text",
    ),
]


OF_TEXT = only("dev", "schnell")


class TestFlux(Checks):
    """The shared checks."""


class TestEdits(GivenChecks):
    """The shared checks of source images."""


@OF_TEXT
def test_embedded_guidance(model: Flux, case: Case) -> None:
    heard = model.pipeline.transformer.config.guidance_embeds
    known = model.embedded_guidance
    assert known == (3.5 if heard else None)
    condition, x = case.encode(model), noise(len(case.texts), *case.shape(model))
    ours, hashes = {}, {weights_hash(model)}
    for guidance in (1.0, 3.5) if heard else (None,):
        model.embedded_guidance = guidance
        times = torch.tensor([1.0, 0.0])
        ours[guidance] = sample_ode(Forward(model), condition, x, times=times, solver="euler")
        call = Call(case, case.texts, x, [1.0])
        theirs = own(model, call, guidance_scale=guidance or 3.5)
        torch.testing.assert_close(ours[guidance], theirs, rtol=0, atol=1e-4)
        hashes.add(weights_hash(model))  # by which samples of the base are found again
    model.embedded_guidance = known
    assert not heard or not torch.equal(ours[1.0], ours[3.5])
    assert len(hashes) == len(ours)


@OF_TEXT
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


@OF_TEXT
@torch.no_grad()
def test_texts_are_the_pipelines(model: Flux) -> None:
    texts = ["", "x" * 300, "x" * 511 + "y", "x" * 511 + "z", "short"]
    together: Any = model.encode(texts)
    theirs, pooled, _ = model.pipeline.encode_prompt(prompt=texts)
    torch.testing.assert_close(together.embeds, theirs)
    torch.testing.assert_close(together.pooled, pooled)
    torch.testing.assert_close(together.embeds[2], together.embeds[3])  # both cut off
    model.max_text_tokens = 256
    shorter: Any = model.encode(["a"])
    model.max_text_tokens = 512
    assert shorter.embeds.shape == (1, 256, 32)


@OF_TEXT
def test_shift_is_the_pipelines(model: Flux) -> None:
    x = noise(1, *model.latent_shape(32, 64))
    scheduler = model.pipeline.scheduler
    arguments = {"num_inference_steps": 4, "height": 32, "width": 64, "latents": packed(x)}
    ask(model, scheduler, prompt="a", output_type="latent", **arguments)
    ours = time_grid(4, shift=model.time_shift((4, 16, 32)))
    torch.testing.assert_close(ours, scheduler.sigmas.double(), rtol=0, atol=1e-6)


def test_an_editing_base_needs_sources_and_no_other_takes_them(model: Flux) -> None:
    if isinstance(model, FluxKontext):
        with pytest.raises(
            DataError, match=r"needs source images, but data\.source_images is"
        ) as e:
            model.set_given(first_frames=0, source_images=0)
        assert e.value.hint == "set data.source_images = 1"
        with pytest.raises(DataError, match=r"takes no first frames, but data\.given_frames") as e:
            model.set_given(first_frames=1, source_images=1)
        assert "data.given_frames = 0" in e.value.hint
        model.set_given(first_frames=0, source_images=1)
    else:
        with pytest.raises(
            DataError, match=r"Flux takes no source images, but data\.source_i"
        ) as e:
            model.set_given(first_frames=0, source_images=1)
        assert "data.source_images = 0" in e.value.hint
