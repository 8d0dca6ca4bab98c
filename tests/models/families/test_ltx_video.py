"""LTX-Video over tiny random pipelines, saved and loaded as a user's would be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from tests.models.families.tiny import t5_encoder, t5_tokenizer
from torch import Tensor

from ddrl.errors import DataError
from ddrl.models.families.ltx_video import LTXCondition, LTXVideo
from ddrl.models.lora.adapter import LoRASettings, add_lora
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter

TEXTS = ["a cat holding a sign", ""]
SIZE = {"height": 32, "width": 64}  # the pipeline takes multiples of 32 only


def build_pipeline(*, conditioned: bool) -> LTXPipeline:
    """A pipeline; ``conditioned`` as from version 0.9.1: the decoder takes a time and has noise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
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
        for parameter in vae.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.95,
            max_shift=2.05,
            base_image_seq_len=1024,
            max_image_seq_len=4096,
            shift_terminal=0.1,
        ),
        vae=vae,
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=transformer,
    )


@pytest.fixture(scope="module", params=[False, True], ids=["first", "conditioned"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ltx") / "model"
    build_pipeline(conditioned=request.param).save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> LTXVideo:
    loaded = load_model(folder)
    assert isinstance(loaded, LTXVideo)
    return loaded


def pack(latents: Tensor) -> Tensor:
    packed: Tensor = LTXPipeline._pack_latents(latents)
    return packed


def own_pipeline(model: LTXVideo, **arguments: Any) -> Any:
    def run(noise: Tensor, times: Sequence[float]) -> Tensor:
        pipeline, scheduler = model.pipeline, model.pipeline.scheduler
        pipeline.set_progress_bar_config(disable=True)
        pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
        result = pipeline(
            prompt=TEXTS,
            num_inference_steps=len(times),  # uniform; it takes no other times
            guidance_scale=1.0,
            num_frames=1 + 4 * (noise.shape[2] - 1),
            latents=pack(noise),
            output_type="latent",
            **SIZE,
            **arguments,
        ).frames
        pipeline.scheduler = scheduler
        latents: Tensor = LTXPipeline._unpack_latents(result, *noise.shape[2:])
        return latents

    return run


def test_conformance(model: LTXVideo) -> None:
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(TEXTS),
            latent_shape=model.latent_shape(**SIZE, frames=5),
            media=torch.rand(2, 5, 3, 32, 64, generator=torch.Generator().manual_seed(1)),
            pipeline=own_pipeline(model),
        )
    )


def test_the_frame_rate_is_the_pipelines(model: LTXVideo) -> None:
    assert model.frame_rate == 25
    shape = model.latent_shape(**SIZE, frames=9)
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(2))
    slow = LTXVideo(model.pipeline)
    slow.frame_rate = 8.0
    ours = noise - slow.predict(noise, torch.ones(2), slow.encode(TEXTS))
    theirs = own_pipeline(model, frame_rate=8)(noise, [1.0])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    other = noise - model.predict(noise, torch.ones(2), model.encode(TEXTS))
    assert not torch.allclose(ours, other, rtol=0, atol=1e-4)


def test_latents_are_decoded_as_by_the_pipeline(model: LTXVideo) -> None:
    shape = model.latent_shape(**SIZE, frames=5)
    latents = torch.randn(1, *shape, generator=torch.Generator().manual_seed(4))

    def swap(_: Any, index: int, step: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**values, "latents": pack(latents)}

    pipeline = model.pipeline
    pipeline.set_progress_bar_config(disable=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # which the decoder's own noise comes from
        theirs = pipeline(
            prompt="a",
            num_inference_steps=2,
            num_frames=5,
            guidance_scale=1.0,
            callback_on_step_end=swap,
            latents=pack(latents),
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
            **SIZE,
        ).frames
    ours = model.decode(latents)
    assert ours.shape == (1, 5, 3, 32, 64)
    assert torch.equal(ours, model.decode(latents))
    assert ours.std() > 0.01
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    raw = torch.randn(1, *shape, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(model.denormalize(model.normalize(raw)), raw)


def test_lengths_of_texts(model: LTXVideo) -> None:
    texts = ["", "x" * 300, "x" * 301, "short"]
    together = model.encode(texts)
    assert isinstance(together, LTXCondition)
    assert together.embeds.shape == (4, 128, 32)
    assert together.mask.sum(1).tolist() == [1, 128, 128, 6]
    torch.testing.assert_close(together.embeds[1], together.embeds[2])  # both cut off


def test_sizes_and_frames(model: LTXVideo) -> None:
    assert model.latent_shape(4, 8) == (8, 1, 1, 2)
    assert model.latent_shape(32, 32, frames=9) == (8, 3, 8, 8)
    with pytest.raises(DataError, match=r"1 \+ a multiple of 4 frames, not 8") as raised:
        model.latent_shape(32, 32, frames=8)
    assert "9" in str(raised.value.hint)


def test_the_shift_grows_with_the_tokens(model: LTXVideo) -> None:
    assert model.num_tokens((8, 4, 16, 16)) == 1024
    assert model.time_shift((8, 4, 16, 16)) == pytest.approx(math.exp(0.95))
    assert model.time_shift((8, 4, 32, 32)) == pytest.approx(math.exp(2.05))


def test_lora_is_bound(folder: Path) -> None:
    model = load_model(folder)
    number = add_lora(model.transformer, LoRASettings(rank=2), targets=model.lora_targets)
    assert number == 2 * 4  # one block, self- and cross-attention
