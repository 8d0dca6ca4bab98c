"""Wan2.2 A14B over tiny random pipelines: two experts, of text-to-video and image-to-video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from tests.models.families.cases import decoded, only
from tests.models.families.checks import Checks, FirstFrameChecks
from tests.models.families.wan import wan_parts

from ddrl.errors import WeightsError
from ddrl.models.ema import EMA
from ddrl.models.families.wan.experts import WanExperts
from ddrl.models.families.wan.image_to_video import WanI2V
from ddrl.models.families.wan.text_to_video import Wan
from ddrl.models.lora.adapter import LoRASettings, add_lora
from ddrl.models.pretrained import load_model

BOUNDARY = 0.7
X = torch.linspace(-1, 1, 3 * 4 * 2 * 2 * 4).view(3, 4, 2, 2, 4)
MIXED = torch.tensor([0.2, 0.9, 0.5])
TEXTS = ["a", "b", ""]


def build_text(_: Any = None) -> WanPipeline:
    second = wan_parts.transformer(seed=9)
    return wan_parts.text_pipeline(transformer_2=second, boundary_ratio=BOUNDARY)


def build_image(_: Any = None) -> WanImageToVideoPipeline:
    """No CLIP features in Wan2.2."""
    return WanImageToVideoPipeline(
        transformer=wan_parts.transformer(in_channels=12),
        transformer_2=wan_parts.transformer(in_channels=12, seed=9),
        boundary_ratio=BOUNDARY,
        vae=wan_parts.vae(),
        **wan_parts.text_parts(),
    )


CASES = [
    wan_parts.case("text", build_text, Wan, lora=2 * 2 * 10, decodes=decoded(guidance_scale=1.0)),
    wan_parts.case("image", build_image, WanI2V, given=1, size=(16, 32, 5), **wan_parts.AGAIN),
]
OF_TEXT = only("text")


class TestExperts(Checks):
    """The shared checks."""


class TestFirstFrames(FirstFrameChecks):
    """The shared checks of given frames."""


def test_both_experts_take_part() -> None:
    assert wan_parts.times()[1] > BOUNDARY > wan_parts.times()[2]


@OF_TEXT
def test_rows_of_mixed_times_go_to_the_expert_of_their_time(model: Wan) -> None:
    condition: Any = model.encode(TEXTS)
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


@OF_TEXT
def test_the_boundary_itself_is_noisy(model: Wan) -> None:
    condition: Any = model.encode(TEXTS)
    at, below = torch.full((3,), BOUNDARY), torch.full((3,), BOUNDARY - 1e-4)
    with torch.no_grad():
        for t, expert in ((at, model.pipeline.transformer), (below, model.pipeline.transformer_2)):
            alone = expert(X, t * 1000, condition.embeds).sample
            assert torch.equal(model.predict(X, t, condition), alone)


@OF_TEXT
def test_optimizer_lora_and_average_see_both_experts(fresh: Wan) -> None:
    network = fresh.transformer
    assert isinstance(network, WanExperts)
    assert {n.split(".")[0] for n, _ in network.named_parameters()} == {
        "transformer",
        "transformer_2",
    }
    assert all(p.requires_grad for p in network.parameters())
    assert fresh.pipeline.transformer_2 not in fresh.frozen_parts()
    add_lora(network, LoRASettings(rank=2), targets=fresh.lora_targets)
    trainable = {n for n, p in network.named_parameters() if p.requires_grad}
    assert EMA(network, decay=0.9).state_dict().keys() == trainable


@OF_TEXT
def test_gradients_reach_the_expert_of_the_time_only(fresh: Wan) -> None:
    torch.autograd.backward(fresh.predict(X, torch.full((3,), 0.9), fresh.encode(TEXTS)).sum())
    reached = {
        n.split(".")[0] for n, p in fresh.transformer.named_parameters() if p.grad is not None
    }
    assert reached == {"transformer"}


@OF_TEXT
def test_checkpointing_reaches_both_experts(fresh: Wan) -> None:
    network = fresh.transformer
    assert isinstance(network, WanExperts)
    network.enable_gradient_checkpointing()
    assert network.transformer.gradient_checkpointing
    assert network.transformer_2.gradient_checkpointing
    network.disable_gradient_checkpointing()
    assert not network.transformer_2.gradient_checkpointing


def test_a_missing_expert_is_named(tmp_path: Path) -> None:
    wan_parts.text_pipeline(boundary_ratio=BOUNDARY).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="has only one of its two networks"):
        load_model(tmp_path)
