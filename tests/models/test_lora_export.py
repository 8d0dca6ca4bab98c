"""An exported adapter is the same one after the family's own loader has read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import HunyuanVideo15Pipeline, WanPipeline
from tests.models.families import (
    ltx2_parts,
    test_flux,
    test_hunyuan_video15,
    test_qwen_image,
    test_sd3,
    test_stable_diffusion,
    test_z_image,
    wan_parts,
)
from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.models.lora import LoRASettings, add_lora
from ddrl.models.lora_export import save_lora
from ddrl.models.pretrained import load_model


def experts(_: Path) -> WanPipeline:
    return WanPipeline(
        transformer=wan_parts.transformer(),
        transformer_2=wan_parts.transformer(seed=9),
        boundary_ratio=0.5,
        vae=wan_parts.vae(),
        **wan_parts.text_parts(),
    )


FAMILIES: dict[str, Callable[[Path], Any]] = {
    "sd": test_stable_diffusion.build_sd,
    "sdxl": test_stable_diffusion.build_sdxl,
    "flux": lambda folder: test_flux.build_pipeline(folder, guidance_embeds=True),
    "qwen": lambda _: test_qwen_image.build_pipeline(),
    "z_image": lambda _: test_z_image.build_pipeline(),
    "wan_experts": experts,
    "ltx2": lambda _: ltx2_parts.build_pipeline(newer=True),
    # Its pipeline has no load_lora_weights; its network has.
    "hunyuan": lambda _: HunyuanVideo15Pipeline(**test_hunyuan_video15.parts(task="t2v")),
}


def updates(network: Any) -> dict[str, Tensor]:
    """What the adapter adds to each weight, scaled."""
    return {
        name: module.get_delta_weight(module.active_adapters[0])
        for name, module in network.named_modules()
        if hasattr(module, "get_delta_weight")
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_every_update_survives(family: str, tmp_path: Path) -> None:
    FAMILIES[family](tmp_path / "parts").save_pretrained(tmp_path / "model")
    model, fresh = load_model(tmp_path / "model"), load_model(tmp_path / "model")
    add_lora(model.transformer, LoRASettings(rank=2, alpha=7.0), targets=model.lora_targets)
    random = torch.Generator().manual_seed(0)
    for name, parameter in model.transformer.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(generator=random)
    calls = save_lora(model, tmp_path / "adapter")
    with torch.random.fork_rng(devices=[]):  # some loaders draw what they then overwrite
        for call in calls:
            exec(call.format(folder=tmp_path / "adapter"), {"pipeline": fresh.pipeline})
    before, after = updates(model.transformer), updates(fresh.transformer)
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert all(bool(update.any()) for update in after.values())


def test_no_adapter(tmp_path: Path) -> None:
    test_sd3.build_pipeline(tmp_path / "parts").save_pretrained(tmp_path / "model")
    with pytest.raises(WeightsError, match="has no adapter"):
        save_lora(load_model(tmp_path / "model"), tmp_path / "adapter")
