"""FLUX.2 [klein] over tiny random pipelines, saved and loaded as a user's would be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from tests.models.families.tiny import t5_tokenizer
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from ddrl.diffusion.schedule import time_grid
from ddrl.errors import DataError
from ddrl.evaluation.measures.generate import generate
from ddrl.models.families.flux2_klein import Flux2Klein, Flux2KleinCondition
from ddrl.models.lora.adapter import LoRASettings, add_lora, lora_disabled
from ddrl.models.pretrained import load_model
from ddrl.seeding import sample_noise
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward
from ddrl.training.rollout import sample_ode

TEXTS = ["a cat holding a sign", ""]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
)


def tokenizer() -> Any:
    made = t5_tokenizer(2000)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = CHAT
    return made


def text_encoder() -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=28,  # the pipeline takes layers 9, 18 and 27
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        initializer_range=0.1,
    )
    return Qwen3ForCausalLM(config).eval()


def build_pipeline(*, is_distilled: bool = False) -> Flux2KleinPipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = Flux2Transformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        )
        vae = AutoencoderKLFlux2(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
            up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            batch_norm_eps=0.05,  # so that ignoring it is seen; released models have 1e-4
        )
        vae.bn.running_mean.normal_(0.0, 0.5)
        vae.bn.running_var.uniform_(0.2, 2.0)
        encoder = text_encoder()
    return Flux2KleinPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer(),
        is_distilled=is_distilled,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("flux2_klein") / "model"
    build_pipeline().save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Flux2Klein:
    loaded = load_model(folder)
    assert isinstance(loaded, Flux2Klein)
    loaded.pipeline.set_progress_bar_config(disable=True)
    return loaded


def own_pipeline(model: Flux2Klein, texts: Sequence[str], guidance: float = 1.0) -> Any:
    def run(noise: Tensor, times: Sequence[float]) -> Tensor:
        pipeline = model.pipeline
        own, pipeline.scheduler = pipeline.scheduler, FlowMatchEulerDiscreteScheduler(shift=1.0)
        latents = pipeline(
            prompt=list(texts),
            sigmas=list(times),
            guidance_scale=guidance,
            height=noise.shape[2] * 4,
            width=noise.shape[3] * 4,
            latents=noise,
            output_type="latent",
        ).images
        pipeline.scheduler = own
        # The pipeline returns what its VAE decodes: back to where the noise was.
        norm, column = pipeline.vae.bn, (1, -1, 1, 1)
        std = (norm.running_var + norm.eps).sqrt()
        folded: Tensor = Flux2KleinPipeline._patchify_latents(latents)
        return (folded - norm.running_mean.view(column)) / std.view(column)

    return run


def test_conformance(model: Flux2Klein) -> None:
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(TEXTS),
            latent_shape=model.latent_shape(16, 32),
            media=torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(1)),
            pipeline=own_pipeline(model, TEXTS),
        )
    )


def test_guidance_is_the_pipelines(model: Flux2Klein) -> None:
    noise = torch.randn(2, *model.latent_shape(16, 16), generator=torch.Generator().manual_seed(2))
    ours = sample_ode(
        Forward(model, guidance=4.0),
        model.encode(TEXTS),
        noise,
        times=torch.tensor([1.0, 0.6, 0.3, 0.0]),
        solver="euler",
    )
    theirs = own_pipeline(model, TEXTS, guidance=4.0)(noise, [1.0, 0.6, 0.3])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_decoding_is_the_pipelines(model: Flux2Klein) -> None:
    noise = torch.randn(1, *model.latent_shape(16, 32), generator=torch.Generator().manual_seed(3))
    images = model.pipeline(
        prompt="an owl",
        sigmas=[1.0, 0.5],
        guidance_scale=1.0,
        height=16,
        width=32,
        latents=noise,
        output_type="pt",
    ).images
    sigmas = model.pipeline.scheduler.sigmas
    condition = model.encode(["an owl"])
    latents = sample_ode(Forward(model), condition, noise, times=sigmas, solver="euler")
    torch.testing.assert_close(model.decode(latents, condition), images, rtol=0, atol=1e-4)


@torch.no_grad()
def test_encoding_is_the_pipelines(model: Flux2Klein) -> None:
    media = torch.rand(1, 3, 16, 32, generator=torch.Generator().manual_seed(1))
    theirs = model.pipeline._encode_vae_image(2 * media - 1, torch.Generator())
    torch.testing.assert_close(model.encode_media(media), theirs, rtol=0, atol=1e-5)


def test_texts_are_cut_off_at_512_tokens(model: Flux2Klein) -> None:
    texts = ["x" * 300, "x" * 512 + "y", "x" * 512 + "z"]
    together = model.encode(texts)
    assert isinstance(together, Flux2KleinCondition)
    assert together.embeds.shape == (3, 512, 48)
    torch.testing.assert_close(together.embeds[1], together.embeds[2])  # both cut off
    assert not torch.allclose(together.embeds[0], together.embeds[1])  # 300 are not


def test_sizes_are_of_folded_latents(model: Flux2Klein) -> None:
    assert model.latent_shape(4, 8) == (16, 1, 2)
    with pytest.raises(DataError, match="multiples of 4"):
        model.latent_shape(6, 8)


@pytest.mark.parametrize(("steps", "width"), [(4, 64), (10, 64), (50, 64), (4, 3200), (50, 3200)])
def test_times_are_the_pipelines(model: Flux2Klein, steps: int, width: int) -> None:
    shape = model.latent_shape(32, width)

    def stop(pipeline: Any, index: int, step: Any, values: dict[str, Tensor]) -> dict[str, Tensor]:
        pipeline._interrupt = True  # its times are set, and that is all
        return values

    model.pipeline(
        prompt="a",
        num_inference_steps=steps,
        guidance_scale=1.0,
        height=32,
        width=width,
        latents=torch.zeros(1, *shape),
        callback_on_step_end=stop,
        output_type="latent",
    )
    theirs = model.pipeline.scheduler.sigmas.double()
    ours = time_grid(steps, shift=model.time_shift(shape, steps))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_samples_of_a_few_steps_are_the_pipelines(model: Flux2Klein) -> None:
    """Of ``ddrl sample`` and of the audit."""
    shape = model.latent_shape(16, 32)
    ours = generate(
        Forward(model),
        ["an owl"],
        samples_per_prompt=1,
        latent_shape=shape,
        seed=0,
        num_steps=4,
        solver="euler",
    )
    noise = sample_noise(shape, run_seed=0, purpose="generate", step=0, sample_ids=range(1))
    theirs = model.pipeline(
        prompt="an owl",
        num_inference_steps=4,
        guidance_scale=1.0,
        height=16,
        width=32,
        latents=noise,
        output_type="pt",
    ).images
    torch.testing.assert_close(ours.media, theirs, rtol=0, atol=1e-4)


def test_number_of_steps() -> None:
    base, distilled = (Flux2Klein(build_pipeline(is_distilled=d)) for d in (False, True))
    shape = (128, 64, 64)
    assert (base.num_steps, distilled.num_steps) == (50, 4)
    assert base.time_shift(shape) == base.time_shift(shape, num_steps=50)
    assert distilled.time_shift(shape) == base.time_shift(shape, num_steps=4)
    base.pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    assert base.time_shift(shape) == 3.0


@torch.no_grad()
def test_lora(folder: Path) -> None:
    model = load_model(folder)
    x, t, condition = torch.ones(1, 16, 2, 2), torch.tensor([0.5]), model.encode(["a"])
    before = model.predict(x, t, condition)
    number = add_lora(model.transformer, LoRASettings(rank=2), targets=model.lora_targets)
    assert number == 2 * 8 + 2  # two blocks of two streams, one of one
    for name, parameter in model.transformer.named_parameters():
        if "lora_B" in name:
            parameter.fill_(0.1)
    assert not torch.equal(model.predict(x, t, condition), before)
    with lora_disabled(model.transformer):
        assert torch.equal(model.predict(x, t, condition), before)
