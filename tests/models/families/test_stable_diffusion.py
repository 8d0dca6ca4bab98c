"""SD and SDXL over tiny random pipelines, saved and loaded as a user's would be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tests.models.families.cases import Case, ask, decoded
from tests.models.families.checks import Checks
from tests.models.families.tiny import (
    autoencoder_kl,
    clip_text_model,
    clip_tokenizer,
    fill_zeros,
    noise,
    seeded,
)
from torch import Tensor

from ddrl.diffusion.kernels import DDIM
from ddrl.diffusion.transition import Transitions, step_sample
from ddrl.errors import WeightsError
from ddrl.models.families.stable_diffusion import SDXL, StableDiffusion
from ddrl.models.pretrained import load_model
from ddrl.training.forward import Forward

TEXTS = ("a cat holding a sign", "an owl")
TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS = {
    "epsilon": DDIMScheduler(**TABLE, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    "v_zero_snr": DDIMScheduler(
        **TABLE,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    ),
    "x0": DDIMScheduler(
        **TABLE,
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        prediction_type="sample",
    ),
}


def unet(width: int, **others: Any) -> UNet2DConditionModel:
    made = UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        norm_num_groups=4,
        cross_attention_dim=width,
        **others,
    )
    fill_zeros(made, std=0.02)
    return made


def vae(**others: Any) -> Any:
    return autoencoder_kl(scaling_factor=0.18215, **others)


def build_sd(folder: Path) -> StableDiffusionPipeline:
    with seeded():
        return StableDiffusionPipeline(
            unet=unet(32),
            vae=vae(),
            text_encoder=clip_text_model(seed=1, projection=False),
            tokenizer=clip_tokenizer(folder / "clip"),
            scheduler=PNDMScheduler(
                **TABLE, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def build_sdxl(folder: Path) -> StableDiffusionXLPipeline:
    with seeded():
        return StableDiffusionXLPipeline(
            unet=unet(
                64,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=80,
                use_linear_projection=True,
            ),
            vae=vae(
                force_upcast=True,
                latents_mean=(0.1, -0.2, 0.3, 0.0),
                latents_std=(1.0, 2.0, 0.5, 0.8),
            ),
            text_encoder=clip_text_model(seed=1, projection=False),
            tokenizer=clip_tokenizer(folder / "clip"),
            text_encoder_2=clip_text_model(seed=2),
            tokenizer_2=clip_tokenizer(folder / "clip2"),
            scheduler=EulerDiscreteScheduler(**TABLE, steps_offset=1),
            add_watermarker=False,
        )


def case(name: str, build: Any, adapter: type[StableDiffusion], width: int) -> Case:
    return Case(
        name,
        build,
        adapter,
        None,  # see test_ddim_is_the_pipelines
        lora=4 * 2 * 4,  # four transformer blocks, self- and cross-attention
        limit=77,
        embeds=(77, width),
        sizes={(2, 2, 1): (4, 1, 1)},
        refused={(3, 2, 1): "multiples of 2"},
        shifts={(4, 8, 8): 1.0},
        texts=TEXTS,
        decodes=decoded(scheduler=SCHEDULERS["epsilon"], guidance_scale=1.0),
    )


CASES = [case("sd", build_sd, StableDiffusion, 32), case("sdxl", build_sdxl, SDXL, 64)]


class TestStableDiffusion(Checks):
    """The shared checks."""


@contextmanager
def scheduled(model: StableDiffusion, scheduler: Any) -> Iterator[None]:
    """The model's pipeline with another scheduler, for a while."""
    original = model.pipeline.scheduler
    model.pipeline.scheduler = scheduler
    try:
        yield
    finally:
        model.pipeline.scheduler = original


def their_ddim(model: StableDiffusion, x: Tensor, guidance: float) -> tuple[Tensor, list[int]]:
    """The pipeline's latents after 4 steps of its DDIM, and the levels it visited."""
    scheduler = model.pipeline.scheduler
    latents = ask(
        model,
        scheduler,
        prompt=list(TEXTS),
        num_inference_steps=4,
        guidance_scale=guidance,
        height=x.shape[2] * 2,
        width=x.shape[3] * 2,
        latents=x,
        output_type="latent",
    )
    return latents, scheduler.timesteps.tolist()


def our_ddim(forward: Forward, x: Tensor, levels: Sequence[int], *, end: float) -> Tensor:
    """The same by ddrl's kernel at eta 0, from level to level and then to the time ``end``."""
    times = torch.tensor([(level + 1) / 1000 for level in levels] + [end], dtype=torch.float64)
    kernel = Transitions.build(DDIM(0.0), forward.model.process, times)
    condition = forward.model.encode(list(TEXTS))
    for k in range(len(kernel)):
        with torch.no_grad():
            velocity = forward(x, times[k].float().expand(len(x)), condition)
        step = kernel.step(torch.full((len(x),), k))
        x = step_sample(step, x, velocity, torch.zeros_like(x))
    return x


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("name", list(SCHEDULERS))
def test_ddim_is_the_pipelines(model: StableDiffusion, name: str, guidance: float) -> None:
    with scheduled(model, SCHEDULERS[name]):
        other = type(model)(model.pipeline)
        x = noise(2, *model.latent_shape(16, 32))
        theirs, levels = their_ddim(other, x, guidance)
        # set_alpha_to_one false: the pipeline stops at level 0, above clean data.
        end = 0.0 if SCHEDULERS[name].config.set_alpha_to_one else 0.001
        forward = Forward(other, guidance=guidance)
        ours = our_ddim(forward, x, levels, end=end)
    error = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1))
    assert error <= 1e-4  # 1.3e-5 at most, measured


def test_the_empty_text_of_sdxl_is_zero(model: StableDiffusion) -> None:
    condition: Any = model.encode(["", "a"])
    assert bool(condition.embeds[0].any()) != isinstance(model, SDXL)
    if isinstance(model, SDXL):
        assert not condition.pooled[0].any()
        assert condition.pooled[1].any()


def test_odd_sides_of_latents(model: StableDiffusion) -> None:
    x = torch.ones(1, 4, 3, 5)  # the network halves sides
    velocity = model.predict(x, torch.tensor([0.5]), model.encode(["a"]))
    assert velocity.shape == x.shape
    assert velocity.isfinite().all()


def test_the_vae_of_sdxl_is_not_run_in_half_precision(folder: Path) -> None:
    model = load_model(folder, dtype=torch.float16)
    wide = torch.float32 if isinstance(model, SDXL) else torch.float16
    assert model.vae.dtype == wide
    assert model.dtype == torch.float16


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (FlowMatchEulerDiscreteScheduler(), "has no table"),
        (DDIMScheduler(**TABLE, rescale_betas_zero_snr=True, steps_offset=1), "zero terminal SNR"),
        (EulerDiscreteScheduler(**TABLE, rescale_betas_zero_snr=True), "zero terminal SNR"),
    ],
)
def test_schedulers_that_do_not_fit(model: StableDiffusion, scheduler: Any, message: str) -> None:
    with scheduled(model, scheduler), pytest.raises(WeightsError, match=message):
        type(model)(model.pipeline)


def test_an_unknown_prediction_is_named(model: StableDiffusion) -> None:
    scheduler = EulerDiscreteScheduler(**TABLE)
    scheduler.register_to_config(prediction_type="flow")
    with scheduled(model, scheduler), pytest.raises(WeightsError, match="predicts 'flow'"):
        type(model)(model.pipeline)
