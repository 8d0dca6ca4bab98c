"""Cosmos-Predict2.5 over a tiny random pipeline, saved and loaded as a user's would be."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    Cosmos2_5_PredictBasePipeline,
    CosmosTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.models.transformers import transformer_cosmos
from tests.models.families.chat_parts import chat_tokenizer, pixels, qwen_vl_config, random
from torch import Tensor
from torch.nn import functional as F
from transformers import Qwen2_5_VLForConditionalGeneration

from ddrl.errors import DataError, UsageError
from ddrl.models.families.cosmos import Cosmos, CosmosCondition
from ddrl.models.lora.adapter import LoRASettings, add_lora
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward
from ddrl.training.rollout import sample_ode

TEXTS = ["a red bus moves forward", ""]
TIMES = (1.0, 0.75, 0.5, 0.25, 0.0)
CHANNELS = 4


class Unguarded:
    """Lets the pipeline run."""

    def to(self, device: object) -> None:
        pass

    def check_text_safety(self, text: str) -> bool:
        return True


def nearest(image: Tensor, size: list[int], interpolation: object) -> Tensor:
    return F.interpolate(image, size=size, mode="nearest")


@pytest.fixture(scope="module", autouse=True)
def torchvision() -> Any:
    """Stands in for the one function that the network calls, where torchvision is missing."""
    with pytest.MonkeyPatch.context() as patch:
        if not hasattr(transformer_cosmos, "transforms"):
            resizing = SimpleNamespace(
                functional=SimpleNamespace(resize=nearest),
                InterpolationMode=SimpleNamespace(NEAREST="nearest"),
            )
            patch.setattr(transformer_cosmos, "transforms", resizing, raising=False)
        yield


def build_pipeline() -> Cosmos2_5_PredictBasePipeline:
    transformer = random(
        CosmosTransformer3DModel,
        in_channels=CHANNELS + 1,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        mlp_ratio=2,
        text_embed_dim=32,
        adaln_lora_dim=4,
        max_size=(8, 32, 32),
        rope_scale=(1.0, 3.0, 3.0),
        extra_pos_embed_type=None,
        use_crossattn_projection=True,
        crossattn_proj_in_channels=64,
        encoder_hidden_states_channels=32,
    )
    vae = random(
        AutoencoderKLWan,
        base_dim=4,
        z_dim=CHANNELS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[-0.3, 0.1, 0.2, 0.4],
        latents_std=[0.5, 0.8, 1.5, 2.0],
    )
    scheduler = UniPCMultistepScheduler(
        use_karras_sigmas=True,
        use_flow_sigmas=True,
        prediction_type="flow_prediction",
        sigma_max=200.0,
        sigma_min=0.01,
    )
    return Cosmos2_5_PredictBasePipeline(
        text_encoder=random(Qwen2_5_VLForConditionalGeneration, qwen_vl_config()),
        tokenizer=chat_tokenizer(),
        transformer=transformer,
        vae=vae,
        scheduler=scheduler,
        safety_checker=Unguarded(),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cosmos") / "model"
    build_pipeline().save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Cosmos:
    model = load_model(folder)
    assert isinstance(model, Cosmos)
    return model


@pytest.fixture
def model(loaded: Cosmos) -> Cosmos:
    loaded.given_frames = 0
    return loaded


def given_condition(model: Cosmos, frames: int, *, seed: int = 2) -> tuple[CosmosCondition, Tensor]:
    model.given_frames = frames
    first = pixels(2, frames, 3, 16, 32, seed=seed)
    return model.encode(TEXTS, first_frames=first), first


def own_pipeline(
    model: Cosmos, first_frames: Tensor | None = None, *, guidance: float = 1.0
) -> Any:
    """The pipeline's own loop, one text at a time, with Euler steps on the given times."""

    def run(noise: Tensor, times: Sequence[float]) -> Tensor:
        pipeline = model.pipeline
        pipeline.set_progress_bar_config(disable=True)
        kept = pipeline.scheduler, pipeline.safety_checker
        pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
        set_timesteps = functools.partial(pipeline.scheduler.set_timesteps, sigmas=list(times))
        pipeline.scheduler.set_timesteps = lambda _, device: set_timesteps(device=device)
        pipeline.safety_checker = Unguarded()
        num = model.given_latents
        # What it starts the given frames from must not matter.
        anything = noise.new_full((*noise.shape[:2], num, *noise.shape[3:]), 3.0)
        start = torch.cat([anything, noise], dim=2)
        rows = []
        try:
            for i, text in enumerate(TEXTS):
                video = None
                if first_frames is not None:
                    video = 2 * first_frames[i : i + 1].transpose(1, 2) - 1
                latents: Tensor = pipeline(
                    prompt=[text],
                    negative_prompt=[""],
                    video=video,
                    num_latent_conditional_frames=num or 2,
                    num_frames=1 + 4 * (start.shape[2] - 1),
                    height=noise.shape[3] * 8,
                    width=noise.shape[4] * 8,
                    num_inference_steps=len(times),
                    guidance_scale=guidance,
                    latents=start[i : i + 1],
                    output_type="latent",
                ).frames
                rows.append(latents[:, :, num:])
        finally:
            pipeline.scheduler, pipeline.safety_checker = kept
        return torch.cat(rows)

    return run


def test_conformance_of_text_to_video(model: Cosmos) -> None:
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(TEXTS),
            latent_shape=model.latent_shape(16, 32, 5),
            media=pixels(2, 5, 3, 16, 32),
            pipeline=own_pipeline(model),
            texts=TEXTS,
        )
    )


@pytest.mark.parametrize("frames", [1, 5])
def test_conformance_with_given_frames(model: Cosmos, frames: int) -> None:
    condition, first = given_condition(model, frames)
    assert condition.given is not None
    assert condition.given.shape == (2, CHANNELS, model.given_latents, 2, 4)
    check_adapter(
        AdapterCase(
            model=model,
            condition=condition,
            latent_shape=model.latent_shape(16, 32, 9),
            media=pixels(2, 9, 3, 16, 32),
            pipeline=own_pipeline(model, first),
            texts=TEXTS,
            first_frames=first,
        )
    )


@pytest.mark.parametrize("frames", [0, 1])
def test_guidance_is_counted_from_one(model: Cosmos, frames: int) -> None:
    if frames:
        condition, first = given_condition(model, frames)
    else:
        condition, first = model.encode(TEXTS), None
    shape = model.latent_shape(16, 16 if not frames else 32, 5)
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(3))
    times = torch.tensor(TIMES, dtype=torch.float64)
    ours = sample_ode(Forward(model, guidance=4.0), condition, noise, times=times, solver="euler")
    theirs = own_pipeline(model, first, guidance=3.0)(noise, TIMES[:-1])
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("frames", [1, 5])
def test_given_frames_are_kept_and_change_only_their_sample(model: Cosmos, frames: int) -> None:
    condition, first = given_condition(model, frames)
    assert condition.given is not None
    shape = model.latent_shape(16, 32, 9)
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(4))
    time = torch.full((2,), 0.5)
    # The same latents and pixels as the whole clip's: no later frame reaches them.
    clip = torch.cat([first, pixels(2, 9 - frames, 3, 16, 32, seed=5)], dim=1)
    model.given_frames = 0
    whole = model.encode_media(clip)
    model.given_frames = frames
    generated = model.encode_media(clip)
    torch.testing.assert_close(whole[:, :, : model.given_latents], condition.given)
    torch.testing.assert_close(whole[:, :, model.given_latents :], generated)
    decoded = model.decode(noise, condition)
    other = model.decode(torch.zeros_like(noise), condition)
    assert decoded.shape == (2, 9, 3, 16, 32)
    torch.testing.assert_close(decoded[:, :frames], other[:, :frames])
    # Another beginning for the first sample leaves the second alone.
    changed = condition.given.clone()
    changed[0] += 1
    moved = dataclasses.replace(condition, given=changed)
    with torch.no_grad():
        before, after = (model.predict(noise, time, c) for c in (condition, moved))
    assert not torch.equal(before[0], after[0])
    torch.testing.assert_close(before[1], after[1])


def test_given_frames_have_no_noise_and_a_mask(model: Cosmos) -> None:
    condition, _ = given_condition(model, 5)
    assert condition.given is not None
    seen: dict[str, Tensor] = {}

    def look(module: object, args: object, kwargs: dict[str, Tensor]) -> None:
        seen.update(kwargs)

    hook = model.transformer.register_forward_pre_hook(look, with_kwargs=True)
    noise = torch.ones(2, CHANNELS, 1, 2, 4)
    with torch.no_grad():
        model.predict(noise, torch.tensor([0.25, 0.75]), condition)
    hook.remove()
    expected = torch.tensor([[1e-4, 1e-4, 0.25], [1e-4, 1e-4, 0.75]])
    torch.testing.assert_close(seen["timestep"].flatten(1), expected)
    assert torch.equal(seen["hidden_states"], torch.cat([condition.given, noise], dim=2))
    assert torch.equal(seen["condition_mask"][:, 0, :, 0, 0], torch.tensor([[1.0, 1, 0]] * 2))


def test_texts_are_padded_and_cut_as_the_pipeline_does(model: Cosmos) -> None:
    texts = ["", "x" * 300, "y" * 600, "y" * 700]
    condition = model.encode(texts)
    assert condition.embeds.shape == (4, 512, 64)
    theirs, _ = model.pipeline.encode_prompt(texts, do_classifier_free_guidance=False)
    torch.testing.assert_close(condition.embeds, theirs.detach())
    torch.testing.assert_close(condition.embeds[2], condition.embeds[3])


def test_encoding_is_the_pipelines(model: Cosmos) -> None:
    media = pixels(1, 5, 3, 16, 16)
    ours = model.encode_media(media)
    _, theirs, _, _ = model.pipeline.prepare_latents(
        video=2 * media.transpose(1, 2) - 1,
        batch_size=1,
        num_channels_latents=CHANNELS,
        height=16,
        width=16,
        num_frames_in=5,
        num_frames_out=5,
        dtype=torch.float32,
        latents=torch.zeros_like(ours),
    )
    torch.testing.assert_close(ours, theirs.detach())
    torch.testing.assert_close(model.normalize(model.denormalize(ours)), ours)


def test_sizes(model: Cosmos) -> None:
    assert model.latent_shape(16, 16) == (CHANNELS, 1, 2, 2)
    assert model.latent_shape(704, 1280, 93) == (CHANNELS, 24, 88, 160)
    model.given_frames = 1
    assert model.latent_shape(704, 1280, 93) == (CHANNELS, 23, 88, 160)
    model.given_frames = 5
    assert model.latent_shape(704, 1280, 93) == (CHANNELS, 22, 88, 160)
    with pytest.raises(DataError, match="multiples of 16"):
        model.latent_shape(24, 16, 9)
    with pytest.raises(DataError, match=r"1 \+ a multiple of 4 frames, not 8"):
        model.latent_shape(16, 16, 8)
    with pytest.raises(DataError, match="at least 9, not 5"):
        model.latent_shape(16, 16, 5)
    with pytest.raises(DataError, match="0, 1 or 5 given frames, not 2"):
        model.given_frames = 2


def test_wrong_given_frames(model: Cosmos) -> None:
    noise = torch.zeros(2, CHANNELS, 1, 2, 4)
    with pytest.raises(DataError, match="set to make clips from text"):
        model.encode(TEXTS, first_frames=pixels(2, 1, 3, 16, 32))
    condition, _ = given_condition(model, 1)
    with pytest.raises(DataError, match="takes 1 first frame per text"):
        model.encode(TEXTS, first_frames=pixels(2, 5, 3, 16, 32))
    with pytest.raises(DataError, match="multiples of 16"):
        model.encode(TEXTS, first_frames=pixels(2, 1, 3, 24, 32))
    with pytest.raises(DataError, match="1 given latent frames, not 0"):
        model.predict(noise, torch.full((2,), 0.5), model.encode(TEXTS))
    with pytest.raises(DataError, match="1 given latent frames, not 0"):
        model.decode(noise)
    with pytest.raises(DataError, match=r"\(2, 4\) latents along height and width, not \(2, 2\)"):
        model.decode(noise[..., :2], condition)


# Of numpy, to the released scheduler's own arithmetic.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_time_shift_has_the_middle_of_the_released_grid(model: Cosmos) -> None:
    scheduler = model.pipeline.scheduler
    scheduler.set_timesteps(3)
    middle = float(scheduler.sigmas[1])
    assert model.time_shift((4, 2, 2, 4)) == pytest.approx(middle / (1 - middle), rel=1e-5)


def test_lora_reaches_attention_and_feedforward(folder: Path) -> None:
    model = load_model(folder)
    adapted = add_lora(model.transformer, LoRASettings(rank=2), targets=model.lora_targets)
    assert adapted == 2 * (4 + 4 + 2)


def test_the_safety_checker_is_neither_loaded_nor_saved(model: Cosmos, tmp_path: Path) -> None:
    model.pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["safety_checker"] == [None, None]
    assert isinstance(load_model(tmp_path), Cosmos)


def test_without_torchvision_it_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(transformer_cosmos, "transforms")
    with pytest.raises(UsageError, match="needs torchvision"):
        load_model(folder)
