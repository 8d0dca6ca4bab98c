"""LoRA: bound, trainable alone, invisible at the start and when it is off."""

from __future__ import annotations

import pytest
import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.models.lora import LoRASettings, add_lora, has_lora, lora_disabled
from ddrl.models.sd3 import SD3


def network() -> SD3Transformer2DModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            pooled_projection_dim=64,
            out_channels=4,
        ).eval()


def output(model: SD3Transformer2DModel) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    result: Tensor = model(
        hidden_states=torch.randn(2, 4, 8, 8, generator=rng),
        timestep=torch.tensor([100.0, 700.0]),
        encoder_hidden_states=torch.randn(2, 5, 32, generator=rng),
        pooled_projections=torch.randn(2, 64, generator=rng),
        return_dict=False,
    )[0]
    return result


@pytest.mark.parametrize("dora", [False, True])
def test_it_starts_as_the_base_and_can_be_switched_off(dora: bool) -> None:
    model = network()
    with torch.no_grad():
        base = output(model)
    count = add_lora(model, LoRASettings(rank=4, dora=dora), targets=SD3.lora_targets)
    assert count >= 8
    assert has_lora(model)
    trainable = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trainable
    assert all("lora_" in n for n in trainable)
    with torch.no_grad():
        assert torch.allclose(output(model), base, atol=1e-5)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
        assert not torch.allclose(output(model), base, atol=1e-2)
        with lora_disabled(model):
            assert torch.equal(output(model), base)
        assert not torch.allclose(output(model), base, atol=1e-2)


def test_gradients_reach_every_adapter_and_nothing_else() -> None:
    model = network()
    add_lora(model, LoRASettings(rank=4), targets=("attn.to_q", "attn.to_v"))
    torch.autograd.backward(output(model).square().mean())
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == ("lora_" in name)


def test_the_seed_decides() -> None:
    def factors(seed: int) -> Tensor:
        model = network()
        add_lora(model, LoRASettings(rank=4, seed=seed), targets=("attn.to_q",))
        return torch.cat([p.flatten() for n, p in model.named_parameters() if "lora_A" in n])

    assert torch.equal(factors(1), factors(1))
    assert not torch.equal(factors(1), factors(2))


def test_targets_that_match_nothing_are_an_error() -> None:
    settings = LoRASettings(targets=("attention.query",))
    with pytest.raises(WeightsError, match="bound to no module") as caught:
        add_lora(network(), settings, targets=SD3.lora_targets)
    assert "attn.to_q" in caught.value.hint
