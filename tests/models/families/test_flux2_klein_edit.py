"""FLUX.2 [klein] as an editor: the same pipeline, with a source image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline
from tests.models.families import test_flux2_klein
from tests.models.families.test_flux_kontext import pictures, strengthen
from torch import Tensor

from ddrl.errors import DataError
from ddrl.models.adapter.source_images import as_pictures
from ddrl.models.families.flux2_klein import Flux2Klein
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward
from ddrl.training.rollout import sample_ode

TEXTS = ["make it a painting", "remove the cat"]
SIDE = 64  # the pipeline takes no smaller source


def build_pipeline() -> Flux2KleinPipeline:
    pipeline = test_flux2_klein.build_pipeline()
    strengthen(pipeline.transformer, pipeline.vae)
    return pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Flux2Klein:
    folder = tmp_path_factory.mktemp("klein") / "model"
    build_pipeline().save_pretrained(folder)
    loaded = load_model(folder)
    assert isinstance(loaded, Flux2Klein)
    assert loaded.given_frames == 0  # as it is loaded, it makes pictures from texts
    loaded.given_frames = 1
    loaded.pipeline.set_progress_bar_config(disable=True)
    return loaded


def rounded(pixels: Tensor) -> Tensor:
    """Pixels that 8 bits hold exactly, as those of files are."""
    return (pixels * 255).round() / 255


def own_pipeline(
    model: Flux2Klein, texts: Sequence[str], sources: Tensor, guidance: float = 1.0
) -> Any:
    """The pipeline's own call, row by row: it gives all prompts of a call the same images."""

    def one(text: str, source: Tensor, noise: Tensor, times: Sequence[float]) -> Tensor:
        return model.pipeline(
            image=as_pictures(source[None])[0],
            prompt=text,
            sigmas=list(times),
            guidance_scale=guidance,
            height=noise.shape[1] * 4,
            width=noise.shape[2] * 4,
            latents=noise[None],
            output_type="latent",
        ).images

    def run(noise: Tensor, times: Sequence[float]) -> Tensor:
        pipeline = model.pipeline
        own, pipeline.scheduler = pipeline.scheduler, FlowMatchEulerDiscreteScheduler(shift=1.0)
        rows = zip(texts, sources, noise, strict=True)
        latents = torch.cat([one(text, source, x, times) for text, source, x in rows])
        pipeline.scheduler = own
        return model.normalize(latents)

    return run


@pytest.mark.parametrize("size", [(SIDE, SIDE), (SIDE, 96)], ids=["as the result", "of another"])
def test_conformance(model: Flux2Klein, size: tuple[int, int]) -> None:
    sources = rounded(pictures(2, *size, seed=2))
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(TEXTS, first_frames=sources[:, None]),
            latent_shape=model.latent_shape(SIDE, SIDE),
            media=pictures(2, SIDE, SIDE),
            pipeline=own_pipeline(model, TEXTS, sources),
            texts=TEXTS,
            first_frames=sources[:, None],
        )
    )


def test_a_batch_of_four_is_four_of_one(model: Flux2Klein) -> None:
    sources, texts = rounded(pictures(4, SIDE, SIDE, seed=3)), ["a", "b", "", "redden the sky"]
    noise = torch.randn(4, *model.latent_shape(16, 16), generator=torch.Generator().manual_seed(4))
    times, forward = torch.tensor([1.0, 0.5, 0.0]), Forward(model)
    encoded = model.encode(texts, first_frames=sources[:, None])
    together = sample_ode(forward, encoded, noise, times=times, solver="euler")
    theirs = own_pipeline(model, texts, sources)(noise, [1.0, 0.5])
    torch.testing.assert_close(together, theirs, rtol=0, atol=1e-4)
    for row in range(4):
        alone = model.encode([texts[row]], first_frames=sources[row : row + 1, None])
        one = sample_ode(forward, alone, noise[row : row + 1], times=times, solver="euler")
        torch.testing.assert_close(together[row : row + 1], one, rtol=0, atol=1e-5)


def test_source_and_instruction_both_change_the_result(model: Flux2Klein) -> None:
    sources = pictures(2, SIDE, SIDE)
    x, t = torch.ones(1, *model.latent_shape(16, 16)), torch.tensor([0.5])
    with torch.no_grad():
        velocities = [
            model.predict(x, t, model.encode([text], first_frames=source[None, None]))
            for text in TEXTS
            for source in sources
        ]
    for first in range(4):
        for second in range(first):
            assert (velocities[first] - velocities[second]).abs().max() > 1e-4


def test_guidance_keeps_the_source(model: Flux2Klein) -> None:
    sources = rounded(pictures(2, SIDE, SIDE))
    noise = torch.randn(2, *model.latent_shape(16, 16), generator=torch.Generator().manual_seed(2))
    ours = sample_ode(
        Forward(model, guidance=4.0),
        model.encode(TEXTS, first_frames=sources[:, None]),
        noise,
        times=torch.tensor([1.0, 0.6, 0.3, 0.0]),
        solver="euler",
    )
    theirs = own_pipeline(model, TEXTS, sources, guidance=4.0)(noise, [1.0, 0.6, 0.3])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)


def test_it_goes_on_making_pictures_from_texts(model: Flux2Klein) -> None:
    x, t = torch.ones(1, *model.latent_shape(16, 16)), torch.tensor([0.5])
    with pytest.raises(DataError, match="Editing needs a source image"):
        model.predict(x, t, model.encode(["a"]))
    plain = Flux2Klein(model.pipeline)
    with torch.no_grad():
        found = plain.predict(x, t, plain.encode(["a"]))
    assert found.shape == x.shape
    with pytest.raises(DataError, match="set to make pictures from text, which takes no") as error:
        plain.encode(["a"], first_frames=pictures(1, 16, 16)[:, None])
    assert error.value.hint == "set data.source_images = 1"
    plain.set_given(first_frames=0, source_images=0)
    plain.set_given(first_frames=0, source_images=1)
    assert plain.given_frames == 1


@torch.no_grad()
def test_large_sources_are_scaled_down_as_in_the_pipeline(
    model: Flux2Klein, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = rounded(pictures(1, 1000, 1100))
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


def test_loaded_from_a_folder(tmp_path: Path) -> None:
    """A base without sources is what it was: no field more, and the same velocity."""
    pipeline = test_flux2_klein.build_pipeline()
    pipeline.save_pretrained(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    condition = loaded.encode(["a"])
    assert {name for name, value in vars(condition).items() if value is not None} == {"embeds"}
