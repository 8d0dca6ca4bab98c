"""Wan2.1 image-to-video over a tiny random pipeline: extra channels and CLIP features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanImageToVideoPipeline
from tests.models.families import wan_parts
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from ddrl.errors import DataError, WeightsError
from ddrl.models.families.wan.image_to_video import WanI2V
from ddrl.models.families.wan.text_to_video import WanCondition
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward

FRAMES = wan_parts.pixels(2, 1, 3, 16, 32, seed=4)
IMAGE: dict[str, Any] = {"in_channels": 12, "image_dim": 32, "added_kv_proj_dim": 24}


def build_pipeline(**settings: Any) -> WanImageToVideoPipeline:
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=32,
        patch_size=16,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        encoder = CLIPVisionModel(vision).eval()
    return WanImageToVideoPipeline(
        transformer=wan_parts.transformer(**{**IMAGE, **settings}),
        vae=wan_parts.vae(),
        image_encoder=encoder,
        image_processor=CLIPImageProcessor(size=32, crop_size=32),
        **wan_parts.text_parts(),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("wan_i2v") / "model"
    build_pipeline().save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> WanI2V:
    loaded = load_model(folder)
    assert type(loaded) is WanI2V
    return loaded


def sample_each(model: WanI2V, texts: Sequence[str], frames: Tensor, noise: Tensor) -> Tensor:
    """The pipeline takes one image per call."""
    pictures = model.pipeline.video_processor.postprocess(
        frames[:, 0], output_type="pil", do_denormalize=[False] * len(frames)
    )
    return torch.cat(
        [
            wan_parts.sample(model, [text], row[None], image=picture)
            for text, picture, row in zip(texts, pictures, noise, strict=True)
        ]
    )


def test_conformance(model: WanI2V) -> None:
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(wan_parts.TEXTS, first_frames=FRAMES, frames=9),
            latent_shape=model.latent_shape(16, 32, 9),
            media=wan_parts.pixels(2, 9, 3, 16, 32),
            pipeline=lambda noise, _: sample_each(model, wan_parts.TEXTS, FRAMES, noise),
            times=wan_parts.times(),
            texts=wan_parts.TEXTS,
            first_frames=FRAMES,
        )
    )


def test_the_given_latents_are_the_pipelines(model: WanI2V) -> None:
    condition = model.encode(["a", "b"], first_frames=FRAMES, frames=9)
    assert condition.given is not None
    image, noise = 2 * FRAMES[:1, 0] - 1, torch.zeros(1, 4, 3, 2, 4)
    with torch.no_grad():
        _, channels = model.pipeline.prepare_latents(
            image, 1, 4, 16, 32, 9, torch.float32, torch.device("cpu"), latents=noise
        )
    torch.testing.assert_close(condition.given[:1], channels[:, 4:])
    # The first latent frame is that of the given frame alone: the VAE is causal.
    torch.testing.assert_close(condition.given[:, :, :1], model.encode_media(FRAMES))
    assert channels[0, :4].flatten(2).mean(2).tolist() == [[1, 0, 0]] * 4


def test_a_condition_of_long_clips_serves_shorter_ones(model: WanI2V) -> None:
    long = model.encode(["a", "b"], first_frames=FRAMES)
    short = model.encode(["a", "b"], first_frames=FRAMES, frames=5)
    assert long.given is not None
    assert long.given.shape[2] == 21  # 81 frames
    assert short.given is not None
    torch.testing.assert_close(long.given[:, :, :2], short.given)
    x, t = torch.ones(2, 4, 2, 2, 4), torch.full((2,), 0.5)
    with torch.no_grad():
        torch.testing.assert_close(model.predict(x, t, long), model.predict(x, t, short))
        with pytest.raises(DataError, match=r"encoded for latents \(4, 2, 2, 4\)"):
            model.predict(torch.ones(2, 4, 3, 2, 4), t, short)


def test_the_first_frame_changes_its_own_row_only(model: WanI2V) -> None:
    other = FRAMES.clone()
    other[1] = 1 - other[1]
    x, t = torch.ones(2, 4, 2, 2, 4), torch.full((2,), 0.5)
    with torch.no_grad():
        before, after = (
            model.predict(x, t, model.encode(["a", "b"], first_frames=frames, frames=5))
            for frames in (FRAMES, other)
        )
    assert torch.equal(before[0], after[0])
    assert not torch.isclose(before[1], after[1]).all()


@pytest.mark.parametrize("field", ["given", "image"])
def test_channels_and_clip_features_both_matter(model: WanI2V, field: str) -> None:
    condition = model.encode(["a"], first_frames=FRAMES[:1], frames=5)
    changed = model.encode(["a"], first_frames=FRAMES[1:], frames=5)
    fields = {"given": condition.given, "image": condition.image, field: getattr(changed, field)}
    x, t = torch.ones(1, 4, 2, 2, 4), torch.full((1,), 0.5)
    with torch.no_grad():
        before = model.predict(x, t, condition)
        after = model.predict(x, t, WanCondition(condition.embeds, **fields))
    assert not torch.isclose(before, after).all()


def test_guidance_keeps_the_first_frame(model: WanI2V) -> None:
    texts, x, t = ["a cat", "a dog"], torch.ones(2, 4, 2, 2, 4), torch.full((2,), 0.5)
    with torch.no_grad():
        conditional, unconditional = (
            model.predict(x, t, model.encode(u, first_frames=FRAMES, frames=5))
            for u in (texts, ["", ""])
        )
        guided = Forward(model, guidance=3.0)(
            x, t, model.encode(texts, first_frames=FRAMES, frames=5)
        )
    torch.testing.assert_close(guided, unconditional + 3 * (conditional - unconditional))


def test_bad_first_frames(model: WanI2V) -> None:
    x, t = torch.ones(1, 4, 2, 2, 4), torch.full((1,), 0.5)
    with pytest.raises(DataError, match="needs a first frame"):
        model.predict(x, t, model.encode(["a"]))
    with pytest.raises(DataError, match="takes 1 first frame per text"):
        model.encode(["a"], first_frames=FRAMES)
    with pytest.raises(DataError, match="multiples of 16"):
        model.encode(["a"], first_frames=torch.ones(1, 1, 3, 16, 24))
    with pytest.raises(DataError, match="1 \\+ a multiple of 4"):
        model.encode(["a", "b"], first_frames=FRAMES, frames=6)


def test_smallest_size_is_one_frame_without_and_with_a_long_text(model: WanI2V) -> None:
    assert model.given_frames == 1
    assert model.latent_shape(16, 16, 1) == (4, 1, 2, 2)
    condition = model.encode(
        ["", "x" * 300], first_frames=wan_parts.pixels(2, 1, 3, 16, 16), frames=1
    )
    with torch.no_grad():
        velocity = model.predict(torch.ones(2, 4, 1, 2, 2), torch.full((2,), 0.5), condition)
    assert velocity.isfinite().all()


def test_models_of_first_and_last_frames_are_refused(tmp_path: Path) -> None:
    build_pipeline(pos_embed_seq_len=10).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="a first and a last frame"):
        load_model(tmp_path)
