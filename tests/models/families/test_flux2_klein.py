"""FLUX.2 [klein] and the same as an editor, over tiny random pipelines."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from tests.models.families.cases import EDITS, Call, Case, decoded, only
from tests.models.families.checks import Checks, GivenChecks
from tests.models.families.tiny import SMALL, chat_tokenizer, pixels, seeded, strengthen
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from ddrl.diffusion.schedule import time_grid
from ddrl.errors import DataError
from ddrl.evaluation.measures.generate import generate
from ddrl.models.adapter.source_images import as_pictures
from ddrl.models.families.flux2_klein import Flux2Klein
from ddrl.seeding import sample_noise
from ddrl.training.forward import Forward

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
)
SIDE = 64  # the pipeline takes no smaller source


def build_pipeline(_: Any = None, *, is_distilled: bool = False) -> Flux2KleinPipeline:
    with seeded():
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
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            batch_norm_eps=0.05,  # so that ignoring it is seen; released models have 1e-4
        )
        vae.bn.running_mean.normal_(0.0, 0.5)
        vae.bn.running_var.uniform_(0.2, 2.0)
        # The pipeline takes layers 9, 18 and 27.
        config = Qwen3Config(**SMALL, num_hidden_layers=28, initializer_range=0.1)
        encoder = Qwen3ForCausalLM(config).eval()
    return Flux2KleinPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=encoder,
        tokenizer=chat_tokenizer(2000, template=CHAT, special=["<|im_start|>", "<|im_end|>"]),
        is_distilled=is_distilled,
    )


def build_editor(_: Any = None) -> Flux2KleinPipeline:
    pipeline = build_pipeline()
    strengthen(pipeline.transformer, pipeline.vae)
    return pipeline


def own(model: Flux2Klein, call: Call) -> Tensor:
    """The pipeline's own call; with sources a row each, as it gives all prompts the same images."""
    if call.given is None:
        return standardized(model, call.latents(model, guidance_scale=call.guidance))
    latents = [
        row.latents(model, guidance_scale=row.guidance, image=as_pictures(row.given[0])[0])
        for row in call.rows()
        if row.given is not None
    ]
    return standardized(model, torch.cat(latents))


def standardized(model: Flux2Klein, latents: Tensor) -> Tensor:
    """The pipeline returns what its VAE decodes: back to where the noise was."""
    norm, column = model.pipeline.vae.bn, (1, -1, 1, 1)
    std = (norm.running_var + norm.eps).sqrt()
    folded: Tensor = Flux2KleinPipeline._patchify_latents(latents)
    return (folded - norm.running_mean.view(column)) / std.view(column)


def case(name: str, build: Any, **more: Any) -> Case:
    mine: dict[str, Any] = {
        "lora": 2 * 8 + 2,  # two blocks of two streams, one of one
        "limit": 512,
        "embeds": (512, 48),
        "sizes": {(4, 8, 1): (16, 1, 2)},
        "refused": {(6, 8, 1): "multiples of 4"},
        "shifts": {},  # see test_times_are_the_pipelines
        "guidance": 4.0,
    }
    return Case(name, build, Flux2Klein, own, **(mine | more))


CASES = [
    case(
        "klein",
        build_pipeline,
        decodes=decoded(Flux2KleinPipeline._pack_latents, guidance_scale=1.0),
    ),
    case(
        "editor",
        build_editor,
        size=(SIDE, SIDE, 1),
        lora=None,
        limit=None,
        texts=EDITS,
        given=1,
        is_told=True,
        given_sizes=[(SIDE, SIDE), (SIDE, 96)],  # as the result, and of another size
        told="Editing needs a source image",
        too_many="takes 1 source image per text",
    ),
]


class TestKlein(Checks):
    """The shared checks."""


class TestEdits(GivenChecks):
    """The shared checks of source images."""


@only("klein")
@torch.no_grad()
def test_encoding_is_the_pipelines(model: Flux2Klein) -> None:
    media = pixels(1, 3, 16, 32)
    theirs = model.pipeline._encode_vae_image(2 * media - 1, torch.Generator())
    torch.testing.assert_close(model.encode_media(media), theirs, rtol=0, atol=1e-5)


@only("klein")
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


@only("klein")
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


@only("editor")
def test_it_goes_on_making_pictures_from_texts(model: Flux2Klein) -> None:
    """A base without sources is what it was: no field more, and no source."""
    plain = Flux2Klein(model.pipeline)
    assert plain.given_frames == 0  # as it is loaded
    x, condition = torch.ones(1, *plain.latent_shape(16, 16)), plain.encode(["a"])
    assert {name for name, value in vars(condition).items() if value is not None} == {"embeds"}
    with torch.no_grad():
        assert plain.predict(x, torch.tensor([0.5]), condition).shape == x.shape
    with pytest.raises(DataError, match="set to make pictures from text, which takes no") as error:
        plain.encode(["a"], first_frames=pixels(1, 1, 3, 16, 16))
    assert error.value.hint == "set data.source_images = 1"
    plain.set_given(first_frames=0, source_images=0)
    plain.set_given(first_frames=0, source_images=1)
    assert plain.given_frames == 1


@only("editor")
@torch.no_grad()
def test_large_sources_are_scaled_down_as_in_the_pipeline(
    model: Flux2Klein, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pixels(1, 3, 1000, 1100)
    seen: list[Tensor] = []

    def look(*arguments: Any, **named: Any) -> Any:
        seen.extend(named["images"])
        raise InterruptedError

    monkeypatch.setattr(model.pipeline, "prepare_image_latents", look)
    latents = torch.zeros(1, *model.latent_shape(16, 16))
    with pytest.raises(InterruptedError):
        model.pipeline(as_pictures(source), prompt="a", height=16, width=16, latents=latents)
    (theirs,) = seen
    assert theirs.shape[-2] * theirs.shape[-1] <= 1024 * 1024
    torch.testing.assert_close(model._smaller(source), (theirs + 1) / 2, rtol=0, atol=1e-6)
