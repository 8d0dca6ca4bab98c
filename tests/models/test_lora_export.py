"""An exported adapter is the same one after the family's own loader has read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers import HunyuanVideo15Pipeline, WanPipeline
from diffusers.utils import convert_all_state_dict_to_peft, convert_state_dict_to_kohya
from safetensors.torch import load_file, save_file
from tests.models.families import (
    test_flux,
    test_hunyuan_video15,
    test_qwen_image,
    test_sd3,
    test_stable_diffusion,
    test_z_image,
)
from tests.models.families.ltx import ltx2_parts
from tests.models.families.wan import wan_parts
from torch import Tensor

from ddrl.errors import UsageError, WeightsError
from ddrl.models.lora.adapter import LoRASettings, add_lora, has_lora
from ddrl.models.lora.export import LORA_FILE, LORA_FILE_2, check_format, save_lora
from ddrl.models.lora.names import LoRAFormat
from ddrl.models.lora.start import read_adapter
from ddrl.models.pretrained import load_model
from ddrl.models.whole_export import save_whole


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
        name: module.get_delta_weight(module.active_adapters[0]).detach()
        for name, module in network.named_modules()
        if hasattr(module, "get_delta_weight")
    }


FORMATS: dict[str, tuple[LoRAFormat, ...]] = {
    "sd": ("kohya",),
    "sdxl": ("kohya",),
    "flux": ("comfyui",),
    "qwen": ("comfyui", "kohya"),
    "z_image": ("comfyui", "kohya"),
    "wan_experts": ("comfyui", "kohya"),
    "ltx2": ("comfyui",),
}
"""Beside diffusers' own; what diffusers' converters read back."""

KEYS = {
    ("sd", "kohya"): "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0",
    ("flux", "comfyui"): "transformer.transformer_blocks.0.attn.to_q",
    ("qwen", "comfyui"): "diffusion_model.transformer_blocks.0.attn.add_q_proj",
    ("qwen", "kohya"): "lora_unet_transformer_blocks_0_attn_add_q_proj",
    ("z_image", "comfyui"): "diffusion_model.layers.0.attention.to_out.0",
    ("z_image", "kohya"): "lora_unet_layers_0_attention_to_out_0",
    ("wan_experts", "comfyui"): "diffusion_model.blocks.0.cross_attn.o",
    ("wan_experts", "kohya"): "lora_unet_blocks_0_ffn_2",
    ("ltx2", "comfyui"): "diffusion_model.transformer_blocks.0.attn1.to_q",
}
"""A module of the format as its tools spell it."""


def trained(model: Any) -> Any:
    """The model with an adapter whose factors are all random; alpha / rank is 3.5."""
    add_lora(model.transformer, LoRASettings(rank=2, alpha=7.0), targets=model.lora_targets)
    random = torch.Generator().manual_seed(0)
    for name, parameter in model.transformer.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(generator=random)
    return model


def by_tensors(file: Path) -> dict[str, Tensor]:
    """The updates of a tool that reads tensors alone: alpha / rank times both factors."""
    tensors = load_file(file)
    found = {}
    for name, first in tensors.items():
        for down, up in ((".lora_A.", ".lora_B."), (".lora_down.", ".lora_up.")):
            if down in name:
                module = name.partition(down)[0]
                scale = float(tensors.get(f"{module}.alpha", torch.tensor(len(first)))) / len(first)
                second = tensors[name.replace(down, up)]
                found[module] = scale * second.flatten(1) @ first.flatten(1)
    return found


def read_back(folder: Path) -> list[str]:
    """How diffusers reads a file of another format, which its own converters are for."""
    calls = [f'pipeline.load_lora_weights("{{folder}}", weight_name="{LORA_FILE}")']
    if (folder / LORA_FILE_2).exists():
        more = f'weight_name="{LORA_FILE_2}", load_into_transformer_2=True'
        calls.append(f'pipeline.load_lora_weights("{{folder}}", {more})')
    return calls


@pytest.mark.parametrize("family", FAMILIES)
def test_every_update_survives_in_every_format(family: str, tmp_path: Path) -> None:
    FAMILIES[family](tmp_path / "parts").save_pretrained(tmp_path / "model")
    model = trained(load_model(tmp_path / "model"))
    before = updates(model.transformer)
    for format in ("diffusers", *FORMATS.get(family, ())):
        fresh, folder = load_model(tmp_path / "model"), tmp_path / format
        calls = save_lora(model, folder, format=format)
        assert bool(calls) == (format == "diffusers")
        with torch.random.fork_rng(devices=[]):  # some loaders draw what they then overwrite
            for call in calls or read_back(folder):
                exec(call.format(folder=folder), {"pipeline": fresh.pipeline})
        after = updates(fresh.transformer)
        assert before.keys() == after.keys()
        assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)
        assert all(bool(update.any()) for update in after.values())
        seen = [u for file in sorted(folder.iterdir()) for u in by_tensors(file).values()]
        assert len(seen) == len(before)
        limit = 1e-6 * max(float(update.abs().max()) for update in before.values())
        for update in before.values():
            near = [s for s in seen if s.shape == update.flatten(1).shape]
            assert min(float((s - update.flatten(1)).abs().max()) for s in near) <= limit
        if (family, format) in KEYS:
            assert KEYS[family, format] in by_tensors(folder / LORA_FILE)


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_names_of_comfyui_and_onetrainer(family: str, tmp_path: Path) -> None:
    """diffusers reads ``lora_transformer_`` of FLUX's attention alone: compared by name."""
    build = FAMILIES.get(family, test_sd3.build_pipeline)
    build(tmp_path / "parts").save_pretrained(tmp_path / "model")
    model = trained(load_model(tmp_path / "model"))
    for format, prefix in (("comfyui", "transformer."), ("kohya", "lora_transformer_")):
        save_lora(model, tmp_path / format, format=cast(LoRAFormat, format))
        found = by_tensors(tmp_path / format / LORA_FILE)
        for name, update in updates(model.transformer).items():
            key = prefix + (name if format == "comfyui" else name.replace(".", "_"))
            torch.testing.assert_close(found.pop(key), update, atol=1e-6, rtol=1e-6)
        assert not found


def test_kohyas_keys_are_those_of_diffusers_own_converter(tmp_path: Path) -> None:
    test_stable_diffusion.build_sd(tmp_path / "parts").save_pretrained(tmp_path / "model")
    model = trained(load_model(tmp_path / "model"))
    save_lora(model, tmp_path)
    save_lora(model, tmp_path / "kohya", format="kohya")
    theirs = convert_all_state_dict_to_peft(load_file(tmp_path / LORA_FILE))
    theirs = convert_state_dict_to_kohya(theirs)
    ours = load_file(tmp_path / "kohya" / LORA_FILE)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name].to(ours[name])) for name in ours)


def test_a_start_in_fused_keys_of_flux(tmp_path: Path) -> None:
    """As kohya's scripts write them: one adapter for q, k and v, and an alpha below the rank."""
    FAMILIES["flux"](tmp_path / "parts").save_pretrained(tmp_path / "model")
    model = load_model(tmp_path / "model")
    layer: Any = model.transformer.get_submodule("transformer_blocks.0.attn.to_q")
    width = int(layer.in_features)
    rng = torch.Generator().manual_seed(0)
    down, up = torch.randn(4, width, generator=rng), torch.randn(3 * width, 4, generator=rng)
    key = "lora_unet_double_blocks_0_img_attn_qkv"
    tensors = {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
    save_file(tensors | {f"{key}.alpha": torch.tensor(2.0)}, tmp_path / "fused.safetensors")
    start = read_adapter(tmp_path / "fused.safetensors", model)
    add_lora(model.transformer, LoRASettings(rank=4, alpha=8.0), targets=(), ranks=start.ranks)
    start.load(model.transformer)
    found = updates(model.transformer)
    whole = torch.cat([found[f"transformer_blocks.0.attn.to_{part}"] for part in "qkv"])
    torch.testing.assert_close(whole, 0.5 * up @ down)


def test_both_experts_go_on(tmp_path: Path) -> None:
    FAMILIES["wan_experts"](tmp_path / "parts").save_pretrained(tmp_path / "model")
    model, fresh = trained(load_model(tmp_path / "model")), load_model(tmp_path / "model")
    save_lora(model, tmp_path / "out", format="comfyui")
    start = read_adapter(tmp_path / "out", fresh)
    add_lora(fresh.transformer, LoRASettings(rank=2, alpha=5.0), targets=(), ranks=start.ranks)
    start.load(fresh.transformer)
    before, after = updates(model.transformer), updates(fresh.transformer)
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)
    save_whole(fresh, tmp_path / "merged")
    merged, base = load_model(tmp_path / "merged"), load_model(tmp_path / "model")
    for name, update in before.items():
        was: Any = base.transformer.get_submodule(name)
        now: Any = merged.transformer.get_submodule(name)
        torch.testing.assert_close(now.weight, was.weight + update)


def test_what_a_format_can_not_hold(tmp_path: Path) -> None:
    test_sd3.build_pipeline(tmp_path / "parts").save_pretrained(tmp_path / "model")
    model = load_model(tmp_path / "model")
    with pytest.raises(UsageError, match="comfyui is not written for DoRA"):
        check_format(model, "comfyui", dora=True)
    check_format(model, "diffusers", dora=True)
    other = load_hunyuan(tmp_path / "other")
    with pytest.raises(UsageError, match="no keys in the format kohya") as caught:
        check_format(other, "kohya", dora=False)
    assert caught.value.hint.endswith("is exported with --format diffusers")


def load_hunyuan(folder: Path) -> Any:
    FAMILIES["hunyuan"](folder / "parts").save_pretrained(folder)
    return load_model(folder)


def test_no_adapter(tmp_path: Path) -> None:
    test_sd3.build_pipeline(tmp_path / "parts").save_pretrained(tmp_path / "model")
    with pytest.raises(WeightsError, match="has no adapter"):
        save_lora(load_model(tmp_path / "model"), tmp_path / "adapter")


def test_an_adapter_is_not_merged_into_a_quantised_network(tmp_path: Path) -> None:
    test_sd3.build_pipeline(tmp_path / "parts").save_pretrained(tmp_path / "model")
    model = trained(load_model(tmp_path / "model"))
    network: Any = model.transformer
    network.is_quantized = True  # as diffusers says it of one
    with pytest.raises(WeightsError, match="can't be merged into a quantised") as caught:
        save_whole(model, tmp_path / "merged")
    assert "without --merged" in caught.value.hint
    assert has_lora(network)
    assert not (tmp_path / "merged").exists()
