"""A sketch of every family is the loaded model without its weights, and computes as it does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from diffusers import WanPipeline
from tests.models.families import (
    test_cosmos,
    test_flux,
    test_flux2_klein,
    test_hunyuan_video15,
    test_qwen_image,
    test_sana,
    test_sd3,
    test_stable_diffusion,
    test_z_image,
)
from tests.models.families.ltx import ltx2_parts, test_ltx2, test_ltx_video
from tests.models.families.test_cosmos import torchvision  # noqa: F401 - a fixture for all here
from tests.models.families.wan import test_wan_experts, test_wan_i2v, test_wan_ti2v, wan_parts
from torch import Tensor, nn

from ddrl.errors import WeightsError
from ddrl.models.adapter.blank import blank_condition
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.files.configs import known_releases
from ddrl.models.footprint import LiveBytes
from ddrl.models.lora.adapter import LoRASettings, add_lora
from ddrl.models.pretrained import load_model
from ddrl.models.sketch import materialize, sketch_model

BUILDERS: dict[str, Callable[[Path], Any]] = {
    "sd3": test_sd3.build_pipeline,
    "sd": test_stable_diffusion.build_sd,
    "sdxl": test_stable_diffusion.build_sdxl,
    "sana": test_sana.build_pipeline,
    "z_image": test_z_image.build_pipeline,
    "flux": lambda folder: test_flux.build_pipeline(folder, guidance_embeds=True),
    "kontext": test_flux.build_kontext,
    "flux2": test_flux2_klein.build_pipeline,
    "qwen": test_qwen_image.build_pipeline,
    "ltx": lambda _: test_ltx_video.build_pipeline(conditioned=True),
    "ltx2": lambda _: ltx2_parts.build_pipeline(newer=True),
    "ltx2_i2v": lambda _: test_ltx2.build_i2v(newer=True),
    "wan": lambda _: wan_parts.text_pipeline(),
    "wan_i2v": test_wan_i2v.build_pipeline,
    "wan_experts": test_wan_experts.build_text,
    "wan_ti2v": lambda _: test_wan_ti2v.build(WanPipeline),
    "cosmos": test_cosmos.build_pipeline,
    "hunyuan": test_hunyuan_video15.build_text,
}
FAST = ("sd3", "wan", "cosmos")
FAMILIES = [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in BUILDERS]
CAT = ["a cat", ""]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp(family)
    BUILDERS[family](made).save_pretrained(made / "model")
    return made / "model"


def shapes(network: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (t.shape, t.dtype) for name, t in network.state_dict().items()}


def test_a_sketch_has_the_modules_of_the_model(folder: Path, tmp_path: Path) -> None:
    loaded = load_model(folder, dtype=torch.bfloat16)
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("*.safetensors", "*tokenizer*"))
    sketch = sketch_model(bare, dtype=torch.bfloat16)
    assert type(sketch) is type(loaded)
    assert shapes(sketch.transformer) == shapes(loaded.transformer)
    assert sum(len(shapes(p)) for p in sketch.frozen_parts()) > 0
    for name, part in loaded.pipeline.components.items():
        if isinstance(part, nn.Module):
            assert shapes(getattr(sketch.pipeline, name)) == shapes(part), name
    shape = loaded.latent_shape(32, 64, 9 if loaded.is_video() else 1)
    assert sketch.latent_shape(32, 64, 9 if loaded.is_video() else 1) == shape
    assert sketch.time_shift(shape) == loaded.time_shift(shape)
    assert all(p.is_meta for p in sketch.transformer.parameters())


def traced(model: DiffusersModel, shape: tuple[int, ...]) -> list[int]:
    """Bytes kept by a forward pass, its peak with the backward pass, and decoding's peak."""
    condition = blank_condition(model, 2, shape)
    if condition is None:
        pytest.skip("the family can't be traced")
    with LiveBytes() as update:
        velocity = model.predict(torch.zeros(2, *shape), torch.full((2,), 0.5), condition)
        kept = update.current
        torch.autograd.backward(velocity.float().square().sum())
    with LiveBytes() as decoding:
        model.decode(torch.zeros(2, *shape), condition)
    return [kept, update.peak, decoding.peak]


def prepared(model: DiffusersModel, *, checkpointing: bool) -> DiffusersModel:
    add_lora(
        model.transformer, LoRASettings(rank=2), targets=model.lora_targets, is_used=model.is_used
    )
    if checkpointing:
        model.enable_gradient_checkpointing()
    return model


@pytest.mark.parametrize("checkpointing", [False, True], ids=["all-kept", "checkpointing"])
def test_fake_tensors_take_what_real_ones_do(folder: Path, checkpointing: bool) -> None:
    real = prepared(load_model(folder), checkpointing=checkpointing)
    shape = real.latent_shape(32, 64, 9 if real.is_video() else 1)
    expected = traced(real, shape)
    sketch = prepared(sketch_model(folder), checkpointing=checkpointing)
    sketch.process.alpha(torch.tensor([0.5]))  # tables are made of real numbers, before
    with materialize([sketch.transformer, *sketch.frozen_parts()]):
        found = traced(sketch, shape)
    assert found == pytest.approx(expected, rel=0.02)


def test_blank_conditions_are_shaped_as_encoded_ones(folder: Path) -> None:
    model = load_model(folder)
    shape = model.latent_shape(32, 64, 9 if model.is_video() else 1)
    blank = blank_condition(model, 2, shape)
    if blank is None:
        pytest.skip("the family can't be traced")
    sources = torch.zeros(2, 1, 3, 32, 64) if model.takes_sources and model.given_frames else None
    real = model.encode(CAT, first_frames=sources)
    assert type(blank) is type(real)
    for name, value in vars(real).items():
        made = getattr(blank, name)
        if isinstance(value, Tensor):
            same = value.shape[:1] + value.shape[2:] == made.shape[:1] + made.shape[2:]
            assert same, name
            assert value.ndim < 2 or value.shape[1] <= made.shape[1], name


COUNTS = {  # parameters of the network, in billions, as published
    "stabilityai/stable-diffusion-3.5-medium": 2.24,
    "black-forest-labs/FLUX.1-dev": 11.9,
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": 1.42,
    "nvidia/Cosmos-Predict2.5-2B": 2.06,
    "Qwen/Qwen-Image": 20.4,
}
ENCODERS = {  # of all text encoders: CLIP-L 0.12, CLIP-G 0.69, T5 4.76, UMT5 5.68, Qwen2.5-VL 8.29
    "stabilityai/stable-diffusion-3.5-medium": 5.58,
    "black-forest-labs/FLUX.1-dev": 4.89,
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": 5.68,
    "nvidia/Cosmos-Predict2.5-2B": 8.29,
    "Qwen/Qwen-Image": 8.29,
}


def billions(*networks: nn.Module) -> float:
    return sum(p.numel() for network in networks for p in network.parameters()) / 1e9


def test_every_release_is_counted() -> None:
    assert set(known_releases()) == COUNTS.keys() == ENCODERS.keys()


@pytest.mark.parametrize("release", COUNTS)
def test_releases_have_the_published_sizes(release: str) -> None:
    model = sketch_model(release, dtype=torch.bfloat16)
    assert billions(model.transformer) == pytest.approx(COUNTS[release], rel=0.005)
    others = [part for part in model.frozen_parts() if part is not model.vae]
    assert billions(*others) == pytest.approx(ENCODERS[release], rel=0.005)
    size = 0.127 if model.is_video() or release == "Qwen/Qwen-Image" else 0.0838
    assert billions(model.vae) == pytest.approx(size, rel=0.005)


def test_a_revision_is_of_the_same_release() -> None:
    model = sketch_model("nvidia/Cosmos-Predict2.5-2B@diffusers/base/post-trained")
    assert billions(model.transformer) == pytest.approx(2.06, rel=0.005)


def test_an_unknown_release_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def offline(*_: object, **__: object) -> str:
        asked.append(1)
        raise ConnectionError("offline")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", offline)
    with pytest.raises(WeightsError, match=r"nobody/nothing is not here: .* can't be reached") as e:
        sketch_model("nobody/nothing")
    assert "download it first: hf download nobody/nothing" in e.value.hint
    assert len(asked) == 1


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    test_sd3.build_pipeline(tmp_path).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "vae" / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"its vae/config\.json can't be read") as caught:
        sketch_model(tmp_path / "model")
    assert "folder" in caught.value.hint
    (tmp_path / "model" / "model_index.json").write_text("[]")
    with pytest.raises(WeightsError, match="is not a diffusers pipeline"):
        sketch_model(tmp_path / "model")


def test_an_unknown_family(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "KandinskyPipeline"}')
    with pytest.raises(WeightsError, match="holds a KandinskyPipeline"):
        sketch_model(tmp_path)
