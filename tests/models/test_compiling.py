"""Compiled blocks compute what they did, under the same names, with the adapter on or off."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from tests.models import test_lora
from torch import Tensor, nn

from ddrl.models.compiling import compile_blocks
from ddrl.models.lora.adapter import LoRASettings, add_lora, lora_disabled
from ddrl.models.tiny.networks import DiT, FiLMNet

# PyTorch's own, while it traces.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated"),
]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = limit


def dit() -> DiT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DiT(shape=(1, 4, 4), num_labels=3, width=8, depth=2, heads=2, patch=2)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    add_lora(network, LoRASettings(rank=2), targets=("qkv",))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.3)
    return network


def output(network: nn.Module, rows: int = 3) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    x, t = torch.randn(rows, 1, 4, 4, generator=rng), torch.rand(rows, generator=rng)
    result: Tensor = network(x, t, torch.arange(rows) % 3)
    return result


def test_it_computes_the_same() -> None:
    """Without and with gradient, adapter on and off, any batch; backend: the trace alone."""
    plain = dit()
    compiled = copy.deepcopy(plain)
    assert compile_blocks(compiled, backend="eager") == 2
    assert list(compiled.state_dict()) == list(plain.state_dict())
    for rows in (3, 2):
        with torch.no_grad():
            on = output(compiled, rows)
            assert torch.equal(on, output(plain, rows))
            with lora_disabled(plain), lora_disabled(compiled):
                off = output(compiled, rows)
                assert torch.equal(off, output(plain, rows))
            assert not torch.allclose(on, off, atol=1e-3)
        for network in (plain, compiled):
            network.zero_grad()
            torch.autograd.backward(output(network, rows).square().mean())
        for mine, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
            assert (mine.grad is None) == (theirs.grad is None)
            if mine.grad is not None and theirs.grad is not None:
                torch.testing.assert_close(mine.grad, theirs.grad)
    # For each of 2 batches: adapter on, off, and with gradient the first block and the others.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 8


def test_a_copy_is_not_compiled_and_computes_the_same() -> None:
    compiled = dit()
    compile_blocks(compiled, backend="eager")
    again = copy.deepcopy(compiled)
    assert not any(module._compiled_call_impl for module in again.modules())
    with torch.no_grad():
        assert torch.equal(output(again), output(compiled))


def test_what_is_compiled() -> None:
    """The kinds that diffusers names; else what is in lists; else all."""

    class Named(nn.Module):
        _repeated_blocks = ("Linear",)

        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.ReLU())])

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = Named(), Named()

    def compiled(network: nn.Module) -> list[str]:
        count = compile_blocks(network, backend="eager")
        found = [type(m).__name__ for m in network.modules() if m._compiled_call_impl]
        assert len(found) == count
        return found

    with torch.random.fork_rng(devices=[]):
        assert compiled(Named()) == ["Linear"]
        assert compiled(Both()) == ["Linear", "Linear"]
        assert compiled(nn.Linear(2, 2)) == ["Linear"]
        # Layers are too little to be called one by one.
        assert compiled(FiLMNet(num_pixels=4, num_labels=3, width=8, depth=2)) == ["FiLMNet"]
    assert compiled(test_lora.network()) == ["JointTransformerBlock"] * 2
    assert torch._dynamo.config.recompile_limit >= 64
