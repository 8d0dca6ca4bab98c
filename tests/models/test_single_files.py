"""The line that makes a folder of a single file works as it is typed, and the folder opens."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tests.models import original_names
from tests.models.families.test_sd3 import build_pipeline
from tests.models.families.test_stable_diffusion import build_sd, build_sdxl
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from ddrl.errors import WeightsError
from ddrl.models.files.base_files import read_base
from ddrl.models.pretrained import load_model

# An argument that diffusers gives and its downloads no longer take.
pytestmark = pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`:UserWarning")

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
SD15, SD35 = "stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-3.5-large"


def cached(cache: Path, hub_id: str, pipeline: Any) -> None:
    """Put a pipeline where the hub's client has what it has downloaded."""
    folder = cache / f"models--{hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    pipeline.save_pretrained(folder / "snapshots" / ("0" * 40))


def line_of(file: Path) -> tuple[str, Path]:
    """The command that the file comes with, and the folder that it makes."""
    with pytest.raises(WeightsError, match="is a single file of weights") as caught:
        read_base(file)
    assert "convert it once, with a network (it reads " in caught.value.hint
    command, _, rest = caught.value.hint.partition("auth login): ")[2].partition(", then set ")
    (folder,) = shlex.split(rest.removeprefix("model.path="))
    return command, Path(folder)


def type_line(command: str, cache: Path) -> None:
    """Give the command to a shell that has no network."""
    env = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    done = subprocess.run(command, shell=True, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def run_line(command: str, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Run the same code here, which takes less time."""
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_OFFLINE", True)
    python, option, code = shlex.split(command)
    assert (python, option) == ("python", "-c")
    with torch.random.fork_rng(devices=[]):
        exec(code, {})


def check_weights(folder: Path, network: Any, dtype: torch.dtype) -> None:
    found: Mapping[str, Tensor] = load_file(folder / "diffusion_pytorch_model.safetensors")
    expected = network.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], tensor.to(dtype)), name


def half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.half() for name, tensor in state.items()}


@pytest.mark.parametrize("whole", [True, False])
def test_sd15(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    cache, file = tmp_path / "cache", tmp_path / "it's my model.safetensors"
    pipeline = build_sd(tmp_path / "tokenizers")
    state = original_names.unet(pipeline.unet)
    if whole:
        state |= original_names.vae(pipeline.vae)
        state |= original_names.clip(pipeline.text_encoder, "cond_stage_model.transformer.")
    save_file(half(state), file)
    cached(cache, SD15, pipeline)
    command, folder = line_of(file)
    if whole:
        type_line(command, cache)
    else:
        run_line(command, cache, monkeypatch)
    check_weights(folder / "unet", pipeline.unet, torch.float16)
    check_weights(folder / "vae", pipeline.vae, torch.float16)
    load_model(folder)


def test_sdxl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Diffusers tells it by a tenth block, and its two text encoders by their widths."""
    cache, file = tmp_path / "cache", tmp_path / "xl.safetensors"
    pipeline = build_sdxl(tmp_path / "tokenizers")
    config = pipeline.text_encoder_2.config.to_dict() | {"num_hidden_layers": 10, "hidden_size": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline.text_encoder_2 = CLIPTextModelWithProjection(CLIPTextConfig(**config))
    first, second = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
    state = original_names.unet(pipeline.unet) | original_names.vae(pipeline.vae)
    state |= original_names.open_clip(pipeline.text_encoder_2, second)
    state |= original_names.clip(pipeline.text_encoder, first)
    save_file(state, file)
    cached(cache, SDXL, pipeline)
    command, folder = line_of(file)
    assert "StableDiffusionXLPipeline.from_single_file" in command
    run_line(command, cache, monkeypatch)
    check_weights(folder / "unet", pipeline.unet, torch.float32)
    check_weights(folder / "vae", pipeline.vae, torch.float32)
    load_model(folder)


@pytest.mark.parametrize("texts", [True, False])
def test_sd3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: bool) -> None:
    """With its two CLIPs and without T5, and with its VAE alone, as SD3 was released."""
    cache, file = tmp_path / "cache", tmp_path / "sd3.safetensors"
    pipeline = build_pipeline(tmp_path / "tokenizers")
    config = {**pipeline.transformer.config, "num_layers": 38}  # by which the large one is told
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline.transformer = SD3Transformer2DModel.from_config(config)
    state = original_names.sd3(pipeline.transformer) | original_names.vae(pipeline.vae)
    if texts:
        for name, part in (("l", pipeline.text_encoder), ("g", pipeline.text_encoder_2)):
            state |= original_names.clip(part, f"text_encoders.clip_{name}.transformer.")
    save_file(state, file)
    cached(cache, SD35, pipeline)
    command, folder = line_of(file)
    run_line(command, cache, monkeypatch)
    check_weights(folder / "transformer", pipeline.transformer, torch.float32)
    assert (folder / "text_encoder_3").exists() is not texts
    load_model(folder)


CONV = "model.diffusion_model.input_blocks.0.0.weight"
FLUX = {
    "double_blocks.0.img_attn.norm.key_norm.scale": (8,),
    "guidance_in.in_layer.bias": (8,),
    "img_in.weight": (8, 64),
}
ENCODERS = {
    "first_stage_model.a": (1,),
    "text_encoders.clip_l.a": (1,),
    "text_encoders.t5xxl.transformer.a": (1,),
}


@pytest.mark.parametrize(
    ("shapes", "dtype", "phrases"),
    [
        # A U-Net of SDXL alone, which has no text encoder that tells it.
        (
            {CONV: (4, 4, 3, 3), "model.diffusion_model.label_emb.0.0.weight": (8, 8)},
            torch.float16,
            ("StableDiffusionXLPipeline", "stabilityai/stable-diffusion-xl-base-1.0"),
        ),
        (FLUX, torch.bfloat16, ("FluxTransformer2DModel.from_single_file", "torch.bfloat16")),
        ({**FLUX, **ENCODERS}, torch.float8_e4m3fn, ("FluxPipeline.from_single_file", "bfloat16")),
        # T5 is in few of such files, and FLUX needs it.
        (
            {**FLUX, "first_stage_model.a": (1,), "text_encoders.clip_l.a": (1,)},
            torch.float32,
            ("FluxPipeline.from_pretrained", "huggingface.co/black-forest-labs/FLUX.1-dev,"),
        ),
        # A release of LTX-Video has its VAE, and its text encoder is not in it.
        (
            {
                "model.diffusion_model.patchify_proj.weight": (8, 8),
                "vae.decoder.last_scale_shift_table": (2, 8),
            },
            torch.bfloat16,
            ("LTXPipeline.from_pretrained", "LTXVideoTransformer3DModel.from_single_file"),
        ),
    ],
)
def test_what_is_in_the_file_decides_on_the_line(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype, phrases: tuple[str, ...]
) -> None:
    file = tmp_path / "model.safetensors"
    save_file({name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}, file)
    command, folder = line_of(file)
    assert folder == tmp_path / "model"
    compile(shlex.split(command)[2], "line", "exec")
    text = read_hint(file)
    for phrase in phrases:
        assert phrase in text


def read_hint(file: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_base(file)
    return caught.value.hint


def test_scaled_weights_are_no_weights(tmp_path: Path) -> None:
    """Diffusers would read them without their scales."""
    file = tmp_path / "model.safetensors"
    shapes = {**FLUX, "double_blocks.0.img_attn.qkv.scale_weight": (1,)}
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, file)
    with pytest.raises(WeightsError, match="quantised weights with scales of their own"):
        read_base(file)
