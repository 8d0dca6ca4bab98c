"""Weights of a rollout: the adapter merged, all given back bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from ddrl.models.lora.adapter import LoRASettings, add_lora
from ddrl.models.rollout_weights import merged_bytes, merged_weights, round_at_random


class Block(nn.Module):
    """A convolution, a norm and two matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 16, 1)
        self.norm = nn.LayerNorm(16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.conv(x).flatten(2).transpose(1, 2))
        result: Tensor = self.down(torch.tanh(self.up(tokens)))
        return result


class Network(nn.Module):
    """A first layer and two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 1)
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.blocks[0](x) + self.blocks[1](x)  # type: ignore[no-any-return]


def network_of(*, dora: bool = False, dtype: torch.dtype = torch.float32) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network().to(dtype)
        settings = LoRASettings(rank=4, alpha=4.0, dora=dora)
        add_lora(network, settings, targets=("conv", "up", "down"))
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1)
    return network


def pictures() -> Tensor:
    return torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_a_merged_adapter_computes_the_same(dora: bool) -> None:
    network, x = network_of(dora=dora), pictures()
    before, expected = state(network), network(x)
    with merged_weights(network):
        torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-5)
        base = network.blocks[0].up.base_layer.weight  # type: ignore[union-attr]
        assert not torch.equal(base, before["blocks.0.up.base_layer.weight"])  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(network(x), expected)


def test_everything_is_given_back_where_a_rollout_fails() -> None:
    network = network_of(dtype=torch.bfloat16)
    before = {name: value.data_ptr() for name, value in network.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), merged_weights(network):
        raise KeyboardInterrupt
    assert {name: value.data_ptr() for name, value in network.state_dict().items()} == before
    assert all(p.dtype == torch.bfloat16 for n, p in network.named_parameters() if "lora_" not in n)


def test_equal_seeds_round_alike() -> None:
    network, found = network_of(dtype=torch.bfloat16), []
    for seed in (1, 1, 2):
        with merged_weights(network, seed=seed):
            found.append(state(network))
    first, again, other = found
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("scale", [1e-6, 1e-5, 1e-4])
def test_a_small_adapter_is_not_lost_in_bfloat16(scale: float) -> None:
    """On average over many weights its effect is whole; to the nearest, most of it is gone."""
    rng = torch.Generator().manual_seed(0)
    base = (torch.randn(512, 512, generator=rng) * 0.02).bfloat16().float()
    change, x = torch.randn(512, 512, generator=rng) * scale, torch.randn(512, 512, generator=rng)

    def share(rounded: Tensor) -> float:
        effect = change @ x
        return float((((rounded.float() - base) @ x) * effect).sum() / effect.square().sum())

    merged = base + change
    assert share(round_at_random(merged.clone(), torch.bfloat16, rng)) == pytest.approx(1, abs=0.1)
    if scale < 1e-5:
        assert share(merged.bfloat16()) < 0.1


def test_rounding_goes_to_the_neighbours_alone() -> None:
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(4096, generator=rng)
    exact = x.bfloat16()
    assert torch.equal(round_at_random(exact.float(), torch.bfloat16, rng), exact)
    rounded = round_at_random(x.clone(), torch.bfloat16, rng).float()
    assert bool(((rounded - x).abs() <= x.abs() * 2**-7).all())
    assert not torch.equal(rounded, x.bfloat16().float())


@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [
        (torch.float32, None),
        (torch.bfloat16, None),
        (torch.float32, torch.bfloat16),
    ],
)
def test_the_bytes_are_those_that_are_made(
    dtype: torch.dtype, autocast: torch.dtype | None
) -> None:
    network = network_of(dtype=dtype)
    planned = merged_bytes(network, autocast=autocast)
    before = {value.data_ptr() for value in network.state_dict().values()}
    with merged_weights(network, autocast=autocast):
        made = [v for v in network.state_dict().values() if v.data_ptr() not in before]
    assert planned == sum(value.numel() * value.element_size() for value in made) > 0


def test_a_trace_has_the_layers_and_types_alone() -> None:
    network = network_of()
    with torch.device("meta"):
        traced = copy.deepcopy(network).to("meta")
    with merged_weights(traced, autocast=torch.bfloat16, is_traced=True):
        types = {name: value.dtype for name, value in traced.named_parameters()}
    with merged_weights(network, autocast=torch.bfloat16):
        assert types == {name: value.dtype for name, value in network.named_parameters()}
    assert all(value.dtype == torch.float32 for value in traced.parameters())
