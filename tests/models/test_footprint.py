"""Live bytes are counted storage by storage, for as long as they are alive."""

from __future__ import annotations

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ddrl.models.footprint import LiveBytes, peak_bytes

KIB = 1024


def numbers(count: int) -> torch.Tensor:
    """So many KiB."""
    return torch.zeros(count * KIB // 4)


def test_the_peak_is_of_what_is_alive_at_once() -> None:
    with LiveBytes() as live:
        one = numbers(3)
        two = numbers(5)
        del one
        three = numbers(2)
    assert (live.current, live.peak) == (7 * KIB, 8 * KIB)
    del two, three
    assert live.current == 0


def test_views_and_what_was_there_before_count_nothing() -> None:
    before = numbers(8)
    with LiveBytes() as live:
        views = [before.view(2, -1), before[:10], before.t()]
        before.add_(1)
    assert live.peak == 0
    assert len(views) == 3
    with LiveBytes() as live:
        kept = numbers(4)[:1]  # a view keeps all of its storage
    assert live.current == 4 * KIB
    assert len(kept) == 1


def test_activations_are_kept_until_the_backward_pass() -> None:
    with torch.random.fork_rng(devices=[]):
        network = nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(4)))
    x = torch.zeros(256, 256)
    one = 256 * 256 * 4
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with LiveBytes() as live, torch.no_grad():
        network(x)
    assert live.peak == 2 * one
    with LiveBytes() as live:
        out = network(x)
        assert live.current == 4 * one
        out.sum().backward()
        del out
    assert live.current < one


def test_fake_tensors_count_as_real_ones() -> None:
    def compute() -> None:
        a = torch.zeros(512, 512)
        (a @ a).relu().sum()

    real = peak_bytes(compute)
    with FakeTensorMode():
        assert peak_bytes(compute) == real
    assert real >= 3 * 512 * 512 * 4


def test_nothing_is_allocated_for_fake_tensors() -> None:
    with FakeTensorMode():
        petabytes = peak_bytes(lambda: torch.zeros(1 << 50))
    assert petabytes == 4 << 50
