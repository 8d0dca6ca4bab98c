"""Trained, exported, loaded by diffusers: the base with the adapter computes the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from tests.models.families import test_cosmos, test_flux2_klein, test_sana
from tests.models.families.ltx import test_ltx_video
from tests.models.families.test_cosmos import torchvision  # noqa: F401 - a fixture for all here
from tests.models.families.wan import test_wan_i2v, test_wan_ti2v, wan_parts
from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.lora.adapter import LoRASettings, add_lora
from ddrl.models.lora.export import save_lora
from ddrl.models.pretrained import load_model
from ddrl.records import Condition

FAMILIES: dict[str, Callable[[], Any]] = {
    "sana": test_sana.build_pipeline,
    "flux2_klein": test_flux2_klein.build_pipeline,
    "ltx": lambda: test_ltx_video.build_pipeline(conditioned=False),
    "cosmos": test_cosmos.build_pipeline,
    "wan_i2v": test_wan_i2v.build_pipeline,
    "wan_ti2v": lambda: test_wan_ti2v.build(WanImageToVideoPipeline),
    "wan_t2v_5b": lambda: test_wan_ti2v.build(WanPipeline),
}


def case(model: DiffusersModel) -> tuple[Tensor, Condition]:
    """Noise, and a condition with the first frame where the family takes one."""
    frames = 9 if model.is_video() else 1
    given = model.given_frames
    first = wan_parts.pixels(2, given, 3, 64, 64) if given else None
    noise = torch.randn(
        (2, *model.latent_shape(64, 64, frames)), generator=torch.Generator().manual_seed(0)
    )
    return noise, model.encode(["a cat", "two dogs"], first_frames=first, frames=frames)


def velocity(model: DiffusersModel, noise: Tensor, condition: Condition) -> Tensor:
    with torch.no_grad():
        return model.predict(noise, torch.tensor([0.3, 0.8]), condition)


def train(model: DiffusersModel, noise: Tensor, condition: Condition) -> None:
    """Steps that are large enough to be seen; the first moves one factor alone."""
    parameters = [p for p in model.transformer.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        loss = model.predict(noise, torch.tensor([0.3, 0.8]), condition).square().mean()
        torch.autograd.backward(loss)
        optimizer.step()


@pytest.mark.parametrize("family", FAMILIES)
def test_adapter(family: str, tmp_path: Path) -> None:
    FAMILIES[family]().save_pretrained(tmp_path / "model")
    model, fresh = load_model(tmp_path / "model"), load_model(tmp_path / "model")
    noise, condition = case(model)
    base = velocity(fresh, noise, condition)
    add_lora(model.transformer, LoRASettings(rank=2, alpha=3.0), targets=model.lora_targets)
    assert torch.equal(velocity(model, noise, condition), base)
    train(model, noise, condition)
    trained = velocity(model, noise, condition)
    assert float((trained - base).abs().max()) > 1e-2
    calls = save_lora(model, tmp_path / "adapter")
    assert "pipeline.load_lora_weights" in calls[0]
    with torch.random.fork_rng(devices=[]):  # some loaders draw what they then overwrite
        for call in calls:
            exec(call.format(folder=tmp_path / "adapter"), {"pipeline": fresh.pipeline})
    assert float((velocity(fresh, noise, condition) - trained).abs().max()) < 1e-4


def test_all_weights_of_cosmos(tmp_path: Path) -> None:
    """Its safety checker, which is not loaded, stays out of what is saved."""
    test_cosmos.build_pipeline().save_pretrained(tmp_path / "model")
    model = load_model(tmp_path / "model")
    noise, condition = case(model)
    base = velocity(model, noise, condition)
    model.train_all()
    train(model, noise, condition)
    model.pipeline.save_pretrained(tmp_path / "export")
    trained, again = velocity(model, noise, condition), load_model(tmp_path / "export")
    assert not torch.allclose(trained, base, atol=1e-2)
    assert torch.equal(velocity(again, noise, condition), trained)


def test_a_network_without_adapters_of_its_own_says_so(tmp_path: Path) -> None:
    model = load_model_of_sana(tmp_path)
    add_lora(model.transformer, LoRASettings(rank=2), targets=model.lora_targets)

    class Pipeline:
        """One of diffusers without a loader, over such a network."""

        def __init__(self, transformer: Any) -> None:
            self.transformer = transformer

    class Network(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

    model.pipeline = Pipeline(Network(model.transformer))
    with pytest.raises(WeightsError, match="can't save an adapter of a Network") as caught:
        save_lora(model, tmp_path / "adapter")
    assert "--merged" in caught.value.hint


def load_model_of_sana(folder: Path) -> DiffusersModel:
    test_sana.build_pipeline().save_pretrained(folder / "model")
    return load_model(folder / "model")
