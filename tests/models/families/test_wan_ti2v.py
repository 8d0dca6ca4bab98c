"""Wan2.2 TI2V-5B over a tiny random pipeline: times per token, the first latent frame given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from tests.models.families import wan_parts
from torch import Tensor

from ddrl.errors import DataError
from ddrl.models.families.wan.ti2v import WanTI2V
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward

Z = 8
FRAME = wan_parts.pixels(1, 1, 3, 32, 64, seed=4)
FRAMES = FRAME.expand(2, -1, -1, -1, -1)


def build(pipeline: type[WanPipeline] | type[WanImageToVideoPipeline]) -> Any:
    parts = {
        "transformer": wan_parts.transformer(in_channels=Z, out_channels=Z),
        "vae": wan_parts.vae(
            z_dim=Z,
            is_residual=True,
            patch_size=2,
            in_channels=12,
            out_channels=12,
            scale_factor_spatial=16,
        ),
        **wan_parts.text_parts(),
    }
    return pipeline(expand_timesteps=True, **parts)


def save(folder: Path, pipeline: type[WanPipeline] | type[WanImageToVideoPipeline]) -> Path:
    build(pipeline).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> WanTI2V:
    loaded = load_model(save(tmp_path_factory.mktemp("wan_t2v"), WanPipeline))
    assert type(loaded) is WanTI2V
    return loaded


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> WanTI2V:
    loaded = load_model(save(tmp_path_factory.mktemp("wan_ti2v"), WanImageToVideoPipeline))
    assert type(loaded) is WanTI2V
    return loaded


def pipeline_clip(model: WanTI2V, noise: Tensor) -> Tensor:
    """All latent frames of the pipeline; the noise of the first is of no consequence."""
    first = torch.full_like(noise[:, :, :1], 7.0)
    return wan_parts.sample(
        model, wan_parts.TEXTS, torch.cat([first, noise], dim=2), image=FRAME[0]
    )


def test_text_to_video_conformance(text_model: WanTI2V) -> None:
    check_adapter(
        AdapterCase(
            model=text_model,
            condition=text_model.encode(wan_parts.TEXTS),
            latent_shape=text_model.latent_shape(32, 64, 9),
            media=wan_parts.pixels(2, 9, 3, 32, 64),
            pipeline=lambda noise, _: wan_parts.sample(text_model, wan_parts.TEXTS, noise),
            times=wan_parts.times(),
            texts=wan_parts.TEXTS,
        )
    )


def test_image_to_video_conformance(model: WanTI2V) -> None:
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(wan_parts.TEXTS, first_frames=FRAMES),
            latent_shape=model.latent_shape(32, 64, 9),
            media=wan_parts.pixels(2, 9, 3, 32, 64),
            pipeline=lambda noise, _: pipeline_clip(model, noise)[:, :, 1:],
            times=wan_parts.times(),
            texts=wan_parts.TEXTS,
            first_frames=FRAMES,
        )
    )


def test_the_given_latents_are_exact_and_not_counted(model: WanTI2V) -> None:
    assert model.latent_shape(32, 64, 9) == (Z, 2, 2, 4)  # not 3
    condition = model.encode(wan_parts.TEXTS, first_frames=FRAMES)
    assert condition.given is not None
    assert condition.given.shape == (2, Z, 1, 2, 4)
    theirs = pipeline_clip(model, torch.zeros(2, Z, 2, 2, 4))
    torch.testing.assert_close(condition.given, theirs[:, :, :1])


def test_decoding_puts_the_given_frame_in_front(model: WanTI2V) -> None:
    condition = model.encode(wan_parts.TEXTS, first_frames=FRAMES)
    assert condition.given is not None
    latents = torch.randn(2, Z, 1, 2, 4, generator=torch.Generator().manual_seed(2))
    clip = model.decode(latents, condition)
    assert clip.shape == (2, 5, 3, 32, 64)
    # The first frame is that of the given latent alone, whatever was generated.
    text_only = WanTI2V(model.pipeline, given_frames=0)
    torch.testing.assert_close(clip[:, 0], text_only.decode(condition.given))
    whole = torch.cat([condition.given, latents], dim=2)
    torch.testing.assert_close(clip, text_only.decode(whole))


def test_data_is_encoded_without_its_first_latent_frame(model: WanTI2V) -> None:
    clip = wan_parts.pixels(2, 9, 3, 32, 64)
    condition = model.encode(wan_parts.TEXTS, first_frames=clip[:, :1])
    assert condition.given is not None
    whole = WanTI2V(model.pipeline, given_frames=0).encode_media(clip)
    latents = model.encode_media(clip, condition)
    assert torch.equal(latents, whole[:, :, 1:])
    torch.testing.assert_close(condition.given, whole[:, :, :1])


def test_the_first_frame_changes_its_own_row_only(model: WanTI2V) -> None:
    other = FRAMES.clone()
    other[1] = 1 - other[1]
    x, t = torch.ones(2, Z, 2, 2, 4), torch.full((2,), 0.5)
    with torch.no_grad():
        before, after = (
            model.predict(x, t, model.encode(["a", "b"], first_frames=frames))
            for frames in (FRAMES, other)
        )
    assert torch.equal(before[0], after[0])
    assert not torch.isclose(before[1], after[1]).all()


def test_times_differ_within_a_batch(model: WanTI2V) -> None:
    condition = model.encode(["a", "b"], first_frames=FRAMES)
    x, t = torch.ones(2, Z, 2, 2, 4), torch.tensor([0.2, 0.9])
    with torch.no_grad():
        together = model.predict(x, t, condition)
        for row in (slice(0, 1), slice(1, 2)):
            alone = model.predict(x[row], t[row], condition[row])
            torch.testing.assert_close(together[row], alone)


def test_guidance_keeps_the_first_frame(model: WanTI2V) -> None:
    texts, x, t = ["a cat", "a dog"], torch.ones(2, Z, 2, 2, 4), torch.full((2,), 0.5)
    with torch.no_grad():
        conditional, unconditional = (
            model.predict(x, t, model.encode(u, first_frames=FRAMES)) for u in (texts, ["", ""])
        )
        guided = Forward(model, guidance=3.0)(x, t, model.encode(texts, first_frames=FRAMES))
    torch.testing.assert_close(guided, unconditional + 3 * (conditional - unconditional))


def test_the_published_model_names_the_text_class_and_takes_frames_when_told(
    text_model: WanTI2V, model: WanTI2V
) -> None:
    with pytest.raises(DataError, match="set to make clips from text"):
        text_model.encode(["a", "b"], first_frames=FRAMES)
    told = WanTI2V(text_model.pipeline, given_frames=1)
    assert told.latent_shape(32, 64, 9) == (Z, 2, 2, 4)
    x, t = torch.ones(2, Z, 2, 2, 4), torch.full((2,), 0.5)
    with torch.no_grad():
        torch.testing.assert_close(
            told.predict(x, t, told.encode(["a", "b"], first_frames=FRAMES)),
            model.predict(x, t, model.encode(["a", "b"], first_frames=FRAMES)),
        )


def test_sizes_and_bad_input(model: WanTI2V, text_model: WanTI2V) -> None:
    assert model.latent_shape(32, 32, 5) == (Z, 1, 2, 2)
    assert text_model.latent_shape(32, 32) == (Z, 1, 2, 2)
    assert text_model.latent_shape(704, 1280, 121) == (Z, 31, 44, 80)
    with pytest.raises(DataError, match="0 or 1 given frames, not 5"):
        WanTI2V(model.pipeline, given_frames=5)
    with pytest.raises(DataError, match="multiples of 32"):
        model.latent_shape(48, 32, 5)
    with pytest.raises(DataError, match="at least 5, not 1"):
        model.latent_shape(32, 32, 1)
    with pytest.raises(DataError, match="1 \\+ a multiple of 4 frames, not 7"):
        model.latent_shape(32, 32, 7)
    latents, t = torch.ones(2, Z, 2, 2, 4), torch.full((2,), 0.5)
    with pytest.raises(DataError, match="needs a first frame"):
        model.predict(latents, t, model.encode(["a", "b"]))
    with pytest.raises(DataError, match="needs a first frame"):
        model.decode(latents)
    with pytest.raises(DataError, match="takes 1 first frame per text"):
        model.encode(["a"], first_frames=FRAMES)
    with pytest.raises(DataError, match=r"have \(2, 4\) latents"):
        model.predict(latents.mT, t, model.encode(["a", "b"], first_frames=FRAMES))
