"""FLUX.1 Kontext over a tiny random pipeline, saved and loaded as a user's would be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline
from tests.models.families import test_flux
from torch import Tensor

from ddrl.errors import DataError
from ddrl.models.families.flux import Flux, FluxKontext
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward
from ddrl.training.rollout import sample_ode

TEXTS = ["make it a painting", "remove the cat"]


def build_pipeline(folder: Path) -> FluxKontextPipeline:
    pipeline = test_flux.build_pipeline(folder, guidance_embeds=True)
    strengthen(pipeline.transformer, pipeline.vae)
    return FluxKontextPipeline(**pipeline.components)


@torch.no_grad()
def strengthen(network: Any, vae: Any) -> None:
    """Make a source image heard, and changes seen: among random weights both are faint."""
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2 and ("blocks" in name or "x_embedder" in name):
            parameter.mul_(3)
    vae.encoder.conv_out.weight.mul_(8)
    vae.decoder.conv_out.weight.mul_(3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> FluxKontext:
    made = tmp_path_factory.mktemp("kontext")
    build_pipeline(made).save_pretrained(made / "model")
    loaded = load_model(made / "model")
    assert isinstance(loaded, FluxKontext)
    loaded.pipeline.set_progress_bar_config(disable=True)
    return loaded


def pictures(number: int, height: int, width: int, *, seed: int = 1) -> Tensor:
    return torch.rand(number, 3, height, width, generator=torch.Generator().manual_seed(seed))


def own_pipeline(model: FluxKontext, texts: Sequence[str], sources: Tensor, **more: Any) -> Any:
    """The pipeline's own call, with these source images, shape (U, 3, H, W)."""

    def run(noise: Tensor, times: Sequence[float]) -> Tensor:
        pipeline = model.pipeline
        own, pipeline.scheduler = pipeline.scheduler, FlowMatchEulerDiscreteScheduler(shift=1.0)
        height, width = noise.shape[2] * 2, noise.shape[3] * 2
        latents = pipeline(
            image=sources,
            prompt=list(texts),
            sigmas=list(times),
            height=height,
            width=width,
            latents=test_flux.packed(noise),
            output_type="latent",
            **model.size_arguments(height, width),
            **more,
        ).images
        pipeline.scheduler = own
        unpacked: Tensor = pipeline._unpack_latents(latents, height, width, 2)
        return unpacked

    return run


@pytest.mark.parametrize("size", [(16, 32), (32, 16)], ids=["as the result", "of another shape"])
def test_conformance(model: FluxKontext, size: tuple[int, int]) -> None:
    sources = pictures(2, *size, seed=2)
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(TEXTS, first_frames=sources[:, None]),
            latent_shape=model.latent_shape(16, 32),
            media=pictures(2, 16, 32),
            pipeline=own_pipeline(model, TEXTS, sources),
            texts=TEXTS,
            first_frames=sources[:, None],
        )
    )


def test_a_batch_of_four_is_four_of_one(model: FluxKontext) -> None:
    sources, texts = pictures(4, 16, 16, seed=3), ["a", "b", "", "redden the sky"]
    noise = torch.randn(4, *model.latent_shape(16, 16), generator=torch.Generator().manual_seed(4))
    times, forward = torch.tensor([1.0, 0.5, 0.0]), Forward(model)
    encoded = model.encode(texts, first_frames=sources[:, None])
    together = sample_ode(forward, encoded, noise, times=times, solver="euler")
    for row in range(4):
        alone = model.encode([texts[row]], first_frames=sources[row : row + 1, None])
        one = sample_ode(forward, alone, noise[row : row + 1], times=times, solver="euler")
        torch.testing.assert_close(together[row : row + 1], one, rtol=0, atol=1e-5)
        run = own_pipeline(model, [texts[row]], sources[row : row + 1])
        torch.testing.assert_close(one, run(noise[row : row + 1], [1.0, 0.5]), rtol=0, atol=1e-4)


def test_source_and_instruction_both_change_the_result(model: FluxKontext) -> None:
    sources = pictures(2, 16, 16)
    x, t = torch.ones(1, *model.latent_shape(16, 16)), torch.tensor([0.5])
    with torch.no_grad():
        velocities = [
            model.predict(x, t, model.encode([text], first_frames=source[None, None]))
            for text in TEXTS
            for source in sources
        ]
    for first in range(4):
        for second in range(first):
            assert not torch.equal(velocities[first], velocities[second])


def test_guidance_of_two_passes_keeps_the_source(model: FluxKontext) -> None:
    sources = pictures(2, 16, 16)
    noise = torch.randn(2, *model.latent_shape(16, 16), generator=torch.Generator().manual_seed(2))
    ours = sample_ode(
        Forward(model, guidance=2.5),
        model.encode(TEXTS, first_frames=sources[:, None]),
        noise,
        times=torch.tensor([1.0, 0.6, 0.3, 0.0]),
        solver="euler",
    )
    run = own_pipeline(model, TEXTS, sources, true_cfg_scale=2.5, negative_prompt=["", ""])
    torch.testing.assert_close(ours, run(noise, [1.0, 0.6, 0.3]), rtol=0, atol=1e-4)


def test_an_editing_base_needs_sources_and_no_other_takes_them(
    model: FluxKontext, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"FluxKontext needs source images, but data\.source") as e:
        model.set_given(first_frames=0, source_images=0)
    assert e.value.hint == "set data.source_images = 1"
    with pytest.raises(DataError, match=r"FluxKontext takes no first frames, but data\.given") as e:
        model.set_given(first_frames=1, source_images=1)
    assert "data.given_frames = 0" in e.value.hint
    model.set_given(first_frames=0, source_images=1)
    of_text = Flux(test_flux.build_pipeline(tmp_path, guidance_embeds=True))
    with pytest.raises(DataError, match=r"Flux takes no source images, but data\.source_i") as e:
        of_text.set_given(first_frames=0, source_images=1)
    assert "data.source_images = 0" in e.value.hint
    with pytest.raises(DataError, match="Editing needs a source image"):
        model.predict(torch.ones(1, 4, 4, 4), torch.tensor([0.5]), model.encode(["a"]))
