"""LTX-2 over tiny random pipelines, saved and loaded as a user's would be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTX2Pipeline
from tests.models.families.chat_parts import pixels
from tests.models.families.ltx2_parts import build_pipeline
from torch import Tensor

from ddrl.models.families.ltx2 import LTX2
from ddrl.models.families.ltx_video import LTXCondition
from ddrl.models.lora.adapter import LoRASettings, add_lora
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward
from ddrl.training.rollout import sample_ode

TEXTS = ["a cat holding a sign", ""]
SIZE = {"height": 32, "width": 64}  # the pipeline takes multiples of 32 only


@pytest.fixture(scope="module", params=[False, True], ids=["2.0", "2.3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ltx2") / "model"
    build_pipeline(newer=request.param).save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> LTX2:
    loaded = load_model(folder)
    assert isinstance(loaded, LTX2)
    loaded.pipeline.set_progress_bar_config(disable=True)
    return loaded


def own_pipeline(
    model: LTX2, *, isolated: bool = True, **arguments: Any
) -> Callable[[Tensor, Sequence[float]], Tensor]:
    """The latents of the pipeline itself, whose modality guidance of 0 is no other modality."""

    def run(noise: Tensor, times: Sequence[float]) -> Tensor:
        pipeline, scheduler = model.pipeline, model.pipeline.scheduler
        pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
        settings: dict[str, Any] = {
            "guidance_scale": 1.0,
            "audio_guidance_scale": 1.0,
            "stg_scale": 0.0,
            "audio_stg_scale": 0.0,
            "guidance_rescale": 0.0,
            "modality_scale": 0.0 if isolated else 1.0,
            "audio_modality_scale": 2.0,
        }
        raw = pipeline(
            prompt=TEXTS,
            sigmas=list(times),
            num_frames=1 + 4 * (noise.shape[2] - 1),
            latents=model.denormalize(noise),
            generator=torch.Generator().manual_seed(0),  # of the sound
            output_type="latent",
            **SIZE,
            **(settings | arguments),
        ).frames
        pipeline.scheduler = scheduler
        return model.normalize(raw)

    return run


def noise_like(model: LTX2, *, seed: int, frames: int = 9) -> Tensor:
    shape = model.latent_shape(**SIZE, frames=frames)
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))


def test_conformance(model: LTX2) -> None:
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(TEXTS),
            latent_shape=model.latent_shape(**SIZE, frames=5),
            media=pixels(2, 5, 3, 32, 64),
            pipeline=own_pipeline(model),
        )
    )


@contextmanager
def calls_with(model: LTX2, **arguments: Any) -> Iterator[None]:
    """Have every call of the network use these arguments instead."""
    hook = model.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: (args, kwargs | arguments), with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()


def test_guidance_is_the_pipelines(model: LTX2) -> None:
    noise, times = noise_like(model, seed=2), torch.tensor([1.0, 0.6, 0.3, 0.0])
    forward = Forward(model, guidance=4.0)
    ours = sample_ode(forward, model.encode(TEXTS), noise, times=times, solver="euler")
    # Its guided branches are never isolated unless the network is told so.
    plain = own_pipeline(model, guidance_scale=4.0, modality_scale=1.0, audio_modality_scale=1.0)
    with calls_with(model, isolate_modalities=True):
        torch.testing.assert_close(plain(noise, [1.0, 0.6, 0.3]), ours, rtol=0, atol=1e-4)
    assert not torch.allclose(plain(noise, [1.0, 0.6, 0.3]), ours, rtol=0, atol=1e-2)


@torch.no_grad()
def test_the_video_does_not_hear(model: LTX2) -> None:
    noise, t, condition = noise_like(model, seed=3), torch.tensor([0.5, 0.9]), model.encode(TEXTS)
    silent = model.predict(noise, t, condition)
    config: Any = model.transformer.config
    words = 16  # either the text encoder's width or the sound's
    rng = torch.Generator().manual_seed(4)
    loud = {
        "audio_hidden_states": torch.randn(2, 7, config.audio_in_channels, generator=rng),
        "audio_encoder_hidden_states": torch.randn(2, 5, words, generator=rng),
        "audio_timestep": torch.tensor([10.0, 20.0]),
        "audio_num_frames": 7,
    }
    with calls_with(model, **loud):
        assert torch.equal(model.predict(noise, t, condition), silent)
    with calls_with(model, **loud, isolate_modalities=False):
        assert not torch.allclose(model.predict(noise, t, condition), silent, atol=1e-2)


def reached(model: LTX2) -> set[str]:
    """Parameters that get a gradient other than zero."""
    network = model.transformer
    network.zero_grad(set_to_none=True)
    noise, condition = noise_like(model, seed=5), model.encode(TEXTS)
    velocity = model.predict(noise, torch.tensor([0.5, 0.9]), condition)
    torch.autograd.backward(velocity.square().mean())
    return {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}


def trained(model: LTX2) -> set[str]:
    return {n for n, p in model.transformer.named_parameters() if p.requires_grad}


def test_all_that_is_trained_is_reached(folder: Path) -> None:
    model = load_model(folder)
    assert isinstance(model, LTX2)
    assert reached(model) == trained(model)  # as it is loaded
    model.transformer.requires_grad_(False)
    model.train_all()
    assert reached(model) == trained(model)
    assert not any("audio" in name for name in trained(model))
    # Nothing is left out: whatever is reached when all may be is trained.
    names = trained(model)
    model.transformer.requires_grad_(True)
    assert reached(model) == names


@pytest.mark.parametrize("targets", [(), ("to_q", "linear_1")])
def test_lora_is_bound_to_the_video_alone(folder: Path, targets: tuple[str, ...]) -> None:
    model = load_model(folder)
    assert isinstance(model, LTX2)
    settings = LoRASettings(rank=2, targets=targets)
    number = add_lora(
        model.transformer, settings, targets=model.lora_targets, is_used=model.is_used
    )
    if not targets:
        assert number == 2 * 2 * 4  # two blocks, self- and cross-attention
    for name, parameter in model.transformer.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.1)
    assert reached(model) == trained(model)
    assert len(trained(model)) == 2 * number


def test_the_frame_rate_is_the_pipelines(model: LTX2) -> None:
    assert model.frame_rate == 24
    noise, condition = noise_like(model, seed=6), model.encode(TEXTS)
    slow = LTX2(model.pipeline)
    slow.frame_rate = 8.0
    ours = noise - slow.predict(noise, torch.ones(2), condition)
    theirs = own_pipeline(model, frame_rate=8)(noise, [1.0])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    other = noise - model.predict(noise, torch.ones(2), condition)
    assert not torch.allclose(ours, other, rtol=0, atol=1e-4)


def test_latents_are_decoded_as_by_the_pipeline(model: LTX2) -> None:
    latents = noise_like(model, seed=7, frames=5)[:1]

    def swap(_: Any, index: int, step: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**values, "latents": LTX2Pipeline._pack_latents(latents)}

    theirs = model.pipeline(
        prompt="a",
        num_inference_steps=2,
        num_frames=5,
        guidance_scale=1.0,
        stg_scale=0.0,
        callback_on_step_end=swap,
        generator=torch.Generator().manual_seed(8),
        output_type="pt",
        **SIZE,
    ).frames
    ours = model.decode(latents)
    assert ours.shape == (1, 5, 3, 32, 64)
    assert ours.std() > 0.01
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.denormalize(model.normalize(latents)), latents)


def test_texts_are_cut_off_at_1024_tokens(model: LTX2) -> None:
    texts = ["x" * 300, "x" * 1023 + "y", "x" * 1023 + "z"]
    together = model.encode(texts)
    assert isinstance(together, LTXCondition)
    assert together.embeds.shape[:2] == (3, 1024)
    assert together.mask.all()
    torch.testing.assert_close(together.embeds[1], together.embeds[2])  # both cut off
    assert not torch.allclose(together.embeds[0], together.embeds[1], atol=1e-3)


def test_sizes_and_frames(model: LTX2) -> None:
    assert model.latent_shape(4, 8) == (8, 1, 1, 2)
    assert model.latent_shape(32, 32, frames=9) == (8, 3, 8, 8)


def test_the_shift_grows_with_the_tokens(model: LTX2) -> None:
    assert model.num_tokens((8, 4, 16, 16)) == 1024
    assert model.time_shift((8, 4, 16, 16)) == pytest.approx(math.exp(0.95))
    assert model.time_shift((8, 4, 32, 32)) == pytest.approx(math.exp(2.05))
