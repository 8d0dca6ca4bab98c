"""LTX-2 and LTX-Video with a given first frame, over tiny random pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    LTX2ImageToVideoPipeline,
    LTX2Pipeline,
    LTXImageToVideoPipeline,
    LTXPipeline,
)
from PIL import Image
from tests.models.families import ltx2_parts, test_ltx_video
from tests.models.families.chat_parts import pixels
from torch import Tensor

from ddrl.errors import DataError
from ddrl.models.families.ltx2 import LTX2
from ddrl.models.families.ltx_video import LTXCondition, LTXVideo
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward

TEXTS = ["a cat holding a sign", ""]
SIZE = {"height": 32, "width": 64}
FRAMES = pixels(2, 1, 3, 32, 64)
X, T = torch.ones(2, 8, 1, 8, 16), torch.full((2,), 0.5)


def build(name: str) -> Any:
    """A pipeline of the image-to-video class."""
    if name == "0.9":
        made = test_ltx_video.build_pipeline(conditioned=True)
        return LTXImageToVideoPipeline(**made.components)
    made2 = ltx2_parts.build_pipeline(newer=name == "2.3")
    return LTX2ImageToVideoPipeline(**made2.components)


@pytest.fixture(scope="module", params=["0.9", "2.0", "2.3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LTXVideo:
    folder: Path = tmp_path_factory.mktemp("ltx") / "model"
    build(request.param).save_pretrained(folder)
    loaded = load_model(folder)
    assert isinstance(loaded, LTX2) == (request.param != "0.9")
    assert isinstance(loaded, LTXVideo)
    loaded.pipeline.set_progress_bar_config(disable=True)
    return loaded


def whole_clip(model: LTXVideo, noise: Tensor, times: Sequence[float], given: Tensor) -> Tensor:
    """All latent frames that the pipeline ends with."""
    pipeline, scheduler = model.pipeline, model.pipeline.scheduler
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    clip = torch.cat([given, noise], dim=2)
    shared: dict[str, Any] = {
        "prompt": TEXTS,
        "num_frames": 1 + 4 * (clip.shape[2] - 1),
        "output_type": "latent",
        **SIZE,
    }
    if isinstance(model, LTX2):
        arguments = model.guidance_arguments(1.0) | {
            "latents": model.denormalize(clip),
            "sigmas": list(times),
            "generator": torch.Generator().manual_seed(0),  # of the sound
        }
        result = model.normalize(pipeline(**shared, **arguments).frames)
    else:
        arguments = {
            "latents": LTXPipeline._pack_latents(clip),
            "num_inference_steps": len(times),
            "guidance_scale": 1.0,
        }
        tokens = pipeline(**shared, **arguments).frames
        result = LTXPipeline._unpack_latents(tokens, *clip.shape[2:])
    pipeline.scheduler = scheduler
    return result


def given_of(model: LTXVideo, frames: Tensor = FRAMES) -> Tensor:
    condition = model.encode(TEXTS, first_frames=frames)
    assert isinstance(condition, LTXCondition)
    assert condition.given is not None
    return condition.given


def test_conformance(model: LTXVideo) -> None:
    given = given_of(model)

    def own(noise: Tensor, times: Sequence[float]) -> Tensor:
        clip = whole_clip(model, noise, times, given)
        torch.testing.assert_close(clip[:, :, :1], given)  # it is preserved
        return clip[:, :, 1:]

    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(TEXTS, first_frames=FRAMES),
            latent_shape=model.latent_shape(**SIZE, frames=9),
            media=pixels(2, 9, 3, 32, 64),
            pipeline=own,
            texts=TEXTS,
            first_frames=FRAMES,
        )
    )


def test_the_given_latents_are_the_pipelines_of_the_picture(model: LTXVideo) -> None:
    levels = (FRAMES[0, 0] * 255).round().byte()
    vae, pipeline = model.vae, model.pipeline
    factor = vae.config.scaling_factor
    vae.register_to_config(scaling_factor=1.0)  # as released; of a picture, it takes no other
    try:
        ours = given_of(model, levels[None, None].expand(2, -1, -1, -1, -1) / 255)[:1]
        picture = Image.fromarray(levels.permute(1, 2, 0).numpy())
        image = pipeline.video_processor.preprocess(picture, **SIZE)
        tokens, mask = pipeline.prepare_latents(
            image, 1, 8, 32, 64, 5, dtype=torch.float32, generator=torch.Generator().manual_seed(0)
        )
        with torch.no_grad():
            spread = vae.encode(image.unsqueeze(2)).latent_dist.std / model.statistics(ours)[1]
    finally:
        vae.register_to_config(scaling_factor=factor)
    theirs = LTXPipeline._unpack_latents(tokens, 2, 8, 16)[:, :, :1]
    assert mask.reshape(2, -1)[:, 0].tolist() == [1, 0]
    # LTX-Video's pipeline draws from the posterior, of which ddrl takes the mode.
    allowed = 0.0 if isinstance(model, LTX2) else 6 * spread
    assert bool(((ours - theirs).abs() <= 1e-5 + allowed).all())


def test_tokens_of_the_given_frame_count_for_the_shift(model: LTXVideo) -> None:
    shape = model.latent_shape(**SIZE, frames=9)
    assert shape == (8, 2, 8, 16)
    assert model.num_tokens(shape) == 3 * 8 * 16
    told = type(model)(model.pipeline, given_frames=0)
    assert model.time_shift(shape) == told.time_shift(told.latent_shape(**SIZE, frames=9))


def test_decoding_puts_the_given_frame_in_front(model: LTXVideo) -> None:
    condition, given = model.encode(TEXTS, first_frames=FRAMES), given_of(model)
    latents = torch.randn(2, 8, 1, 8, 16, generator=torch.Generator().manual_seed(2))
    clip = model.decode(latents, condition)
    assert clip.shape == (2, 5, 3, 32, 64)
    text = type(model)(model.pipeline, given_frames=0)
    torch.testing.assert_close(clip, text.decode(torch.cat([given, latents], dim=2)))
    # What follows is seen in the first frame, too: that is why it is not held to be exact.
    assert not torch.allclose(clip[:, 0], model.decode(-latents, condition)[:, 0], atol=1e-4)


def test_data_is_encoded_without_its_first_latent_frame(model: LTXVideo) -> None:
    clip = pixels(2, 9, 3, 32, 64)
    whole = type(model)(model.pipeline, given_frames=0).encode_media(clip)
    assert torch.equal(model.encode_media(clip), whole[:, :, 1:])
    torch.testing.assert_close(given_of(model, clip[:, :1]), whole[:, :, :1])


def test_times_differ_within_a_batch(model: LTXVideo) -> None:
    condition, t = model.encode(TEXTS, first_frames=FRAMES), torch.tensor([0.2, 0.9])
    with torch.no_grad():
        together = model.predict(X, t, condition)
        for row in (slice(0, 1), slice(1, 2)):
            alone = model.predict(X[row], t[row], condition[row])
            torch.testing.assert_close(together[row], alone, rtol=1e-4, atol=1e-5)


def test_guidance_keeps_the_first_frame(model: LTXVideo) -> None:
    with torch.no_grad():
        conditional, unconditional = (
            model.predict(X, T, model.encode(u, first_frames=FRAMES))
            for u in (["a cat", "a dog"], ["", ""])
        )
        condition = model.encode(["a cat", "a dog"], first_frames=FRAMES)
        guided = Forward(model, guidance=3.0)(X, T, condition)
    expected = unconditional + 3 * (conditional - unconditional)
    torch.testing.assert_close(guided, expected, rtol=1e-4, atol=1e-5)


def test_the_text_class_takes_a_frame_when_told(model: LTXVideo, tmp_path: Path) -> None:
    text = LTX2Pipeline if isinstance(model, LTX2) else LTXPipeline
    parts = {n: p for n, p in model.pipeline.components.items() if p is not None}
    other = type(model)(text(**parts))
    assert other.given_frames == 0
    assert other.caller() is text
    with pytest.raises(DataError, match="set to make clips from text"):
        other.encode(TEXTS, first_frames=FRAMES)
    other.given_frames = 1
    assert other.caller() is type(model.pipeline)
    assert "image" in other.call_parameters()
    with torch.no_grad():
        torch.testing.assert_close(
            other.predict(X, T, other.encode(TEXTS, first_frames=FRAMES)),
            model.predict(X, T, model.encode(TEXTS, first_frames=FRAMES)),
        )


def test_what_is_missing_or_of_another_size_is_told(model: LTXVideo) -> None:
    with pytest.raises(DataError, match="at least 5, not 1"):
        model.latent_shape(32, 32)
    with pytest.raises(DataError, match="needs a first frame"):
        model.predict(X, T, model.encode(TEXTS))
    with pytest.raises(DataError, match="needs a first frame"):
        model.decode(X, model.encode(TEXTS))
    with pytest.raises(DataError, match="needs a first frame"):
        model.decode(X)
    with pytest.raises(DataError, match=r"have \(8, 16\) latents"):
        model.predict(X.mT, T, model.encode(TEXTS, first_frames=FRAMES))
