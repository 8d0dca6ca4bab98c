"""Wan2.2 A14B over tiny random pipelines: two experts, of text-to-video and image-to-video."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from tests.models.families import wan_parts

from ddrl.errors import WeightsError
from ddrl.models.ema import EMA
from ddrl.models.families.wan.experts import WanExperts
from ddrl.models.families.wan.image_to_video import WanI2V
from ddrl.models.families.wan.text_to_video import Wan, WanCondition
from ddrl.models.lora.adapter import LoRASettings, add_lora, lora_disabled
from ddrl.models.pretrained import load_model
from ddrl.testing.adapters import AdapterCase, check_adapter

BOUNDARY = 0.7
X = torch.linspace(-1, 1, 3 * 4 * 2 * 2 * 4).view(3, 4, 2, 2, 4)
MIXED = torch.tensor([0.2, 0.9, 0.5])
TEXTS = ["a", "b", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("wan_experts") / "model"
    pipeline = WanPipeline(
        transformer=wan_parts.transformer(),
        transformer_2=wan_parts.transformer(seed=9),
        boundary_ratio=BOUNDARY,
        vae=wan_parts.vae(),
        **wan_parts.text_parts(),
    )
    pipeline.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Wan:
    loaded = load_model(folder)
    assert type(loaded) is Wan
    return loaded


def test_conformance(model: Wan) -> None:
    times = wan_parts.times()
    assert times[1] > BOUNDARY > times[2]  # both experts take part
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(wan_parts.TEXTS),
            latent_shape=model.latent_shape(16, 32, 9),
            media=wan_parts.pixels(2, 9, 3, 16, 32),
            pipeline=lambda noise, _: wan_parts.sample(model, wan_parts.TEXTS, noise),
            times=times,
        )
    )


def test_image_to_video_conformance(tmp_path: Path) -> None:
    """No CLIP features in Wan2.2."""
    pipeline = WanImageToVideoPipeline(
        transformer=wan_parts.transformer(in_channels=12),
        transformer_2=wan_parts.transformer(in_channels=12, seed=9),
        boundary_ratio=BOUNDARY,
        vae=wan_parts.vae(),
        **wan_parts.text_parts(),
    )
    pipeline.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert type(model) is WanI2V
    frames = wan_parts.pixels(1, 1, 3, 16, 32).expand(2, -1, -1, -1, -1)
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(wan_parts.TEXTS, first_frames=frames, frames=5),
            latent_shape=model.latent_shape(16, 32, 5),
            media=wan_parts.pixels(2, 5, 3, 16, 32),
            pipeline=lambda noise, _: wan_parts.sample(
                model, wan_parts.TEXTS, noise, image=frames[0]
            ),
            times=wan_parts.times(),
        )
    )


def test_rows_of_mixed_times_go_to_the_expert_of_their_time(model: Wan) -> None:
    condition = model.encode(TEXTS)
    assert isinstance(condition, WanCondition)
    experts = [
        model.pipeline.transformer_2,
        model.pipeline.transformer,
        model.pipeline.transformer_2,
    ]
    with torch.no_grad():
        velocity = model.predict(X, MIXED, condition)
        for row, expert in enumerate(experts):
            alone = expert(
                hidden_states=X[row : row + 1],
                timestep=MIXED[row : row + 1] * 1000,
                encoder_hidden_states=condition.embeds[row : row + 1],
            ).sample
            torch.testing.assert_close(velocity[row : row + 1], alone)


def test_the_boundary_itself_is_noisy(model: Wan) -> None:
    condition = model.encode(TEXTS)
    assert isinstance(condition, WanCondition)
    at, below = torch.full((3,), BOUNDARY), torch.full((3,), BOUNDARY - 1e-4)
    with torch.no_grad():
        for t, expert in ((at, model.pipeline.transformer), (below, model.pipeline.transformer_2)):
            alone = expert(X, t * 1000, condition.embeds).sample
            assert torch.equal(model.predict(X, t, condition), alone)


def test_optimizer_lora_and_average_see_both_experts(folder: Path) -> None:
    model = load_model(folder)
    network = model.transformer
    assert isinstance(network, WanExperts)
    assert {n.split(".")[0] for n, _ in network.named_parameters()} == {
        "transformer",
        "transformer_2",
    }
    assert all(p.requires_grad for p in network.parameters())
    assert model.pipeline.transformer_2 not in model.frozen_parts()
    condition = model.encode(TEXTS)
    with torch.no_grad():
        before = model.predict(X, MIXED, condition)
    assert add_lora(network, LoRASettings(rank=2), targets=model.lora_targets) == 2 * 2 * 10
    with torch.no_grad():
        assert torch.equal(model.predict(X, MIXED, condition), before)
    torch.autograd.backward(model.predict(X, MIXED, condition).sum())
    trainable = {n for n, p in network.named_parameters() if p.requires_grad}
    assert {n for n, p in network.named_parameters() if p.grad is not None} == trainable
    assert EMA(network, decay=0.9).state_dict().keys() == trainable
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
        assert not torch.isclose(model.predict(X, MIXED, condition), before).all()
        with lora_disabled(network):
            assert torch.equal(model.predict(X, MIXED, condition), before)


def test_gradients_reach_the_expert_of_the_time_only(folder: Path) -> None:
    model = load_model(folder)
    torch.autograd.backward(model.predict(X, torch.full((3,), 0.9), model.encode(TEXTS)).sum())
    reached = {
        n.split(".")[0] for n, p in model.transformer.named_parameters() if p.grad is not None
    }
    assert reached == {"transformer"}


def test_checkpointing_reaches_both_experts(folder: Path) -> None:
    network = load_model(folder).transformer
    assert isinstance(network, WanExperts)
    network.enable_gradient_checkpointing()
    assert network.transformer.gradient_checkpointing
    assert network.transformer_2.gradient_checkpointing
    network.disable_gradient_checkpointing()
    assert not network.transformer_2.gradient_checkpointing


def test_a_missing_expert_is_named(tmp_path: Path) -> None:
    pipeline = WanPipeline(
        transformer=wan_parts.transformer(),
        boundary_ratio=BOUNDARY,
        vae=wan_parts.vae(),
        **wan_parts.text_parts(),
    )
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="has only one of its two networks"):
        load_model(tmp_path)
