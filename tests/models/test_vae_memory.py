"""What an autoencoder takes: its type, slices of a batch, tiles of a picture."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKLWan
from tests.models.families import test_sd3
from tests.models.families.tiny import noise, random
from tests.models.families.wan import test_wan
from torch import nn

from ddrl.builders.identity import encoder_hash
from ddrl.errors import UsageError
from ddrl.models.footprint import peak_bytes
from ddrl.models.pretrained import load_model
from ddrl.models.sketch import materialize, sketch_model
from ddrl.models.vae_memory import set_vae


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd3")
    test_sd3.build_pipeline(folder / "parts").save_pretrained(folder / "model")
    return folder / "model"


@torch.no_grad()
def test_slices_are_what_samples_alone_become(sd3: Path) -> None:
    model = load_model(sd3)
    x, key = noise(3, *model.latent_shape(16, 32)), encoder_hash(model)
    whole, alone = model.decode(x), torch.cat([model.decode(row[None]) for row in x])
    set_vae(model, slicing=True)
    assert torch.equal(model.decode(x), alone)
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-5)
    assert encoder_hash(model) == key  # nothing is encoded again


@torch.no_grad()
def test_the_type_is_the_autoencoder_s_alone(sd3: Path) -> None:
    model = load_model(sd3)
    key, x = encoder_hash(model), noise(1, *model.latent_shape(16, 32))
    exact = model.decode(x)
    set_vae(model, dtype=torch.bfloat16)
    assert (model.vae.dtype, model.dtype) == (torch.bfloat16, torch.float32)
    assert encoder_hash(model) != key
    assert 0 < (model.decode(x) - exact).abs().max() < 0.05


def wan_vae() -> AutoencoderKLWan:
    """Small, with the four stages of the released one: its pixels are eight times its latents."""
    vae: AutoencoderKLWan = random(
        AutoencoderKLWan,
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return vae


@torch.no_grad()
def test_tiles_differ_little_and_are_in_the_keys(tmp_path: Path) -> None:
    """Attention in the middle sees one tile, so that all pixels move; most in an untrained VAE."""
    case = test_wan.CASES[0]
    model = case.adapter(case.build(tmp_path / "parts"))
    model.pipeline.vae = wan_vae()
    key, raw = encoder_hash(model), noise(1, 4, 2, 40, 36)
    whole = model.vae.decode(raw, return_dict=False)[0] / 2
    set_vae(model, tiling=True)
    assert encoder_hash(model) != key
    tiled = model.vae.decode(raw, return_dict=False)[0] / 2
    difference = (tiled - whole).abs()
    assert difference.max() > 0
    assert difference.mean() < 0.02
    small = raw[..., :32, :32]  # no larger than a tile
    assert torch.equal(model.vae.decode(small)[0], wan_vae().decode(small)[0])


def test_what_cannot_be_set() -> None:
    model = SimpleNamespace(vae=nn.Module())
    for key in ("slicing", "tiling"):
        with pytest.raises(UsageError, match=f"model.vae_{key} is true") as error:
            set_vae(model, slicing=key == "slicing", tiling=key == "tiling")
        assert f"model.vae_{key} = false" in error.value.hint


@pytest.mark.parametrize(("slicing", "most"), [(True, 8.0), (False, 3.0)])
def test_clips_of_480p_are_planned_in_little_memory(slicing: bool, most: float) -> None:
    """Two clips of 33 frames at once, which without either take twice what one takes."""
    model = sketch_model("Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
    set_vae(model, slicing=slicing, tiling=not slicing)
    shape = model.latent_shape(480, 832, 33)
    with materialize([model.vae]), torch.no_grad():
        needed = peak_bytes(lambda: model.decode(torch.zeros(2, *shape)))
    assert needed / 2**30 < most
