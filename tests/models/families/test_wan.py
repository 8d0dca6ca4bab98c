"""Wan2.1 text-to-video over a tiny random pipeline, saved and loaded as a user's would be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline
from tests.models.families import wan_parts

from ddrl.errors import DataError, WeightsError
from ddrl.models.families.wan.text_to_video import Wan, WanCondition
from ddrl.models.lora.adapter import LoRASettings, add_lora, has_lora
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("wan") / "model"
    pipeline = WanPipeline(
        transformer=wan_parts.transformer(), vae=wan_parts.vae(), **wan_parts.text_parts()
    )
    pipeline.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Wan:
    loaded = load_model(folder)
    assert type(loaded) is Wan
    return loaded


def test_conformance(model: Wan) -> None:
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(wan_parts.TEXTS),
            latent_shape=model.latent_shape(16, 32, 9),
            media=wan_parts.pixels(2, 9, 3, 16, 32),
            pipeline=lambda noise, _: wan_parts.sample(model, wan_parts.TEXTS, noise),
            times=wan_parts.times(),
            texts=wan_parts.TEXTS,
        )
    )


def test_decoding_is_the_pipelines(model: Wan) -> None:
    pipeline = model.pipeline
    latents = torch.randn(1, 4, 2, 2, 2, generator=torch.Generator().manual_seed(3))
    raw = latents * torch.tensor([1.5, 1.4, 1.3, 1.2]).view(1, 4, 1, 1, 1)
    raw = raw + torch.tensor([0.0, 0.1, 0.2, 0.3]).view(1, 4, 1, 1, 1)
    with torch.no_grad():
        video = pipeline.vae.decode(raw, return_dict=False)[0]
    theirs = pipeline.video_processor.postprocess_video(video, output_type="pt")
    torch.testing.assert_close(model.decode(latents), theirs)
    torch.testing.assert_close(model.normalize(model.denormalize(latents)), latents)


def test_texts_are_padded_and_cut_as_the_pipeline_does(model: Wan) -> None:
    texts = ["", "x" * 300, "y" * 2000]
    condition = model.encode(texts)
    assert isinstance(condition, WanCondition)
    assert condition.embeds.shape == (3, 512, 32)
    lengths = (condition.embeds.abs().sum(-1) > 0).sum(1).tolist()
    assert lengths == [1, 301, 512]  # with the end token


def test_smallest_size_and_wrong_ones(model: Wan) -> None:
    assert model.given_frames == 0
    assert model.latent_shape(16, 16) == (4, 1, 2, 2)
    assert model.latent_shape(480, 832, 81) == (4, 21, 60, 104)
    with pytest.raises(DataError, match="multiples of 16"):
        model.latent_shape(24, 16)
    with pytest.raises(DataError, match=r"1 \+ a multiple of 4 frames, not 8"):
        model.latent_shape(16, 16, 8)


def test_time_shift_is_the_schedulers(model: Wan) -> None:
    assert model.time_shift((4, 3, 2, 4)) == wan_parts.SHIFT


def test_lora_starts_as_the_base_and_alone_gets_gradients(folder: Path) -> None:
    model = load_model(folder)
    condition = model.encode(wan_parts.TEXTS)
    x, t = torch.ones(2, 4, 2, 2, 2), torch.tensor([0.3, 0.9])
    with torch.no_grad():
        before = model.predict(x, t, condition)
    assert add_lora(model.transformer, LoRASettings(rank=2), targets=model.lora_targets) == 2 * 10
    assert has_lora(model.transformer)
    after = Forward(model)(x, t, condition)
    assert torch.equal(before, after)
    torch.autograd.backward(after.sum())
    reached = {n for n, p in model.transformer.named_parameters() if p.grad is not None}
    assert reached == {n for n, p in model.transformer.named_parameters() if "lora_" in n}


def test_half_precision_keeps_the_vae_in_float32(folder: Path) -> None:
    model = load_model(folder, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model.vae.dtype == torch.float32
    # The first parameter stays in float32 whatever is loaded: it does not say what to feed.
    assert next(model.transformer.parameters()).dtype == torch.float32
    with torch.no_grad():
        velocity = Forward(model, guidance=2.0)(
            torch.ones(2, 4, 2, 2, 2), torch.tensor([0.3, 0.9]), model.encode(wan_parts.TEXTS)
        )
    assert velocity.dtype == torch.float32
    assert velocity.isfinite().all()


def test_a_missing_network_is_named(folder: Path, tmp_path: Path) -> None:
    pipeline = WanPipeline(
        transformer=None, vae=wan_parts.vae(), boundary_ratio=None, **wan_parts.text_parts()
    )
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="has only one of its two networks"):
        load_model(tmp_path)
