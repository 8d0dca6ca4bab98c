"""LoRA: bound, trainable alone, invisible at the start and when it is off."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn

from ddrl.errors import WeightsError
from ddrl.models.families.sd3 import SD3
from ddrl.models.lora.adapter import LoRASettings, add_lora, has_lora, lora_disabled


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


WEIGHT = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]])


def line(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """A network of one layer from 3 numbers to 2."""
    with torch.random.fork_rng(devices=[]):
        layer = nn.Linear(3, 2, bias=False, dtype=dtype)
    layer.weight.data = WEIGHT.to(dtype)
    return nn.Sequential(OrderedDict(to_q=layer))


def adapted(settings: LoRASettings, **options: Any) -> tuple[nn.Sequential, dict[str, Tensor]]:
    """The network with an adapter whose second factor is not 0 any more, and its weights."""
    model = line()
    add_lora(model, settings, targets=("to_q",), **options)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.arange(parameter.numel()).reshape(parameter.shape) / 10 + 0.1
    return model, {name.split(".")[1]: p.detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize(("rank", "alpha"), [(2, 8.0), (3, 1.5)])
def test_the_update_is_alpha_over_rank_times_both_factors(rank: int, alpha: float) -> None:
    model, parts = adapted(LoRASettings(rank=rank, alpha=alpha))
    assert parts["lora_A"].shape == (rank, 3)
    weight = WEIGHT + alpha / rank * parts["lora_B"] @ parts["lora_A"]
    x = torch.tensor([[1.0, -1.0, 0.5]])
    torch.testing.assert_close(model(x), x @ weight.T)


def test_dora_sets_direction_and_length_apart() -> None:
    """m (W + BA) / |W + BA|, row by row, where m is |W| at the start."""
    model, parts = adapted(LoRASettings(rank=2, alpha=2.0, dora=True))
    base = WEIGHT
    magnitude = base.norm(dim=1)
    torch.testing.assert_close(parts["lora_magnitude_vector"], magnitude)
    moved = base + parts["lora_B"] @ parts["lora_A"]
    weight = magnitude[:, None] * moved / moved.norm(dim=1, keepdim=True)
    x = torch.tensor([[1.0, -1.0, 0.5]])
    torch.testing.assert_close(model(x), x @ weight.T)


def test_an_adapter_is_float32_on_a_base_that_is_not() -> None:
    model = line(torch.bfloat16)
    add_lora(model, LoRASettings(rank=2), targets=("to_q",))
    found = {name: (p.dtype, p.requires_grad) for name, p in model.named_parameters()}
    assert found.pop("to_q.base_layer.weight") == (torch.bfloat16, False)
    assert set(found.values()) == {(torch.float32, True)}


@pytest.mark.parametrize("cast_inputs", [True, False])
def test_inputs_are_cast_where_no_autocast_does_it(cast_inputs: bool) -> None:
    model, _ = adapted(LoRASettings(rank=2), cast_inputs=cast_inputs)
    layer: Any = model[0]
    assert layer.cast_input_dtype_enabled is cast_inputs


def test_a_target_that_matches_nothing_beside_one_that_does_is_refused() -> None:
    model = network()
    with pytest.raises(
        WeightsError, match=r"The LoRA target attn\.to_kk matches nothing"
    ) as caught:
        add_lora(model, LoRASettings(rank=2, targets=("attn.to_q", "attn.to_kk")), targets=())
    assert "attn.to_k" in caught.value.hint
    assert not has_lora(model)
