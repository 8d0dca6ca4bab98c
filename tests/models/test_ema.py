"""The moving average: its closed form, its scope, and that it always gives the weights back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ddrl.errors import CheckpointError
from ddrl.models.ema import EMA, decay_at, share_followed


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def weight(net: nn.Module) -> nn.Parameter:
    """The first layer's."""
    return net.get_parameter("0.weight")


def fill(net: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(value)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_closed_form(decay: float) -> None:
    """average_n = decay^n w_0 + (1 - decay) sum_i decay^(n - i) w_i."""
    net = network()
    fill(net, 4.0)
    ema = EMA(net, decay=decay)
    weights = [1.0, -2.0, 0.5, 3.0]
    for value in weights:
        fill(net, value)
        ema.update()
    count = len(weights)
    expected = decay**count * 4.0 + (1 - decay) * sum(
        decay ** (count - 1 - i) * value for i, value in enumerate(weights)
    )
    for average in ema.state_dict().values():
        torch.testing.assert_close(average, torch.full_like(average, expected))


def test_with_a_warm_up_the_average_is_short_at_first() -> None:
    """Weights of 0 that are 1, 2, 3, ...: the first decays are 2/11, 3/12 and 4/13."""
    net = network()
    fill(net, 0.0)
    ema, average = EMA(net, decay=0.95, warmup=True), 0.0
    for value, decay in enumerate([2 / 11, 3 / 12, 4 / 13], start=1):
        fill(net, float(value))
        ema.update()
        average = decay * average + (1 - decay) * value
        for found in ema.state_dict().values():
            torch.testing.assert_close(found, torch.full_like(found, average))
    assert ema.num_updates == 3


def test_the_warm_up_ends_at_the_decay() -> None:
    """(1 + n) / (10 + n) is 0.95 at n = 170, and 0.5 at n = 8."""
    assert decay_at(7, decay=0.5, warmup=True) < 0.5 == decay_at(8, decay=0.5, warmup=True)
    assert decay_at(169, decay=0.95, warmup=True) < 0.95 == decay_at(171, decay=0.95, warmup=True)
    assert decay_at(1, decay=0.1, warmup=True) == decay_at(1, decay=0.1, warmup=False) == 0.1


def test_the_share_of_a_change_that_the_average_follows() -> None:
    """At constant speed: (n - d (1 - d^n) / (1 - d)) / n without a warm-up."""
    for count in (1, 2, 30, 300):
        lag = 0.95 * (1 - 0.95**count) / 0.05
        found = share_followed(count, decay=0.95, warmup=False)
        assert found == pytest.approx(1 - lag / count)
    assert share_followed(2, decay=0.95, warmup=False) == pytest.approx(0.07375)
    assert share_followed(2, decay=0.95, warmup=True) == pytest.approx(0.8523, abs=1e-4)
    assert share_followed(10**9, decay=0.95, warmup=False) > 0.94
    assert share_followed(5, decay=0.0, warmup=False) == share_followed(0, decay=0.9, warmup=True)


def test_it_starts_at_the_weights_and_does_not_follow_them_by_itself() -> None:
    net = network()
    ema, before = EMA(net, decay=0.5), weight(net).detach().clone()
    fill(net, 7.0)
    assert torch.equal(ema.state_dict()["0.weight"], before)


def test_only_trainable_parameters_are_averaged() -> None:
    net = network()
    net[0].requires_grad_(False)
    assert EMA(net, decay=0.5).state_dict().keys() == {"1.weight", "1.bias"}


def test_half_precision_is_averaged_in_float32() -> None:
    """In bfloat16, adding a thousandth of a difference would change nothing."""
    net = network().to(torch.bfloat16)
    fill(net, 1.0)
    ema = EMA(net, decay=0.999)
    fill(net, 2.0)
    for _ in range(10):
        ema.update()
    average = ema.state_dict()["0.weight"]
    assert average.dtype == torch.float32
    torch.testing.assert_close(average, torch.full_like(average, 2 - 0.999**10))


def test_applied_uses_the_average_and_gives_the_weights_back() -> None:
    net = network()
    ema, average = EMA(net, decay=0.5), weight(net).detach().clone()
    fill(net, 7.0)
    parameter = weight(net)
    with ema.applied():
        assert torch.equal(parameter, average)
    assert torch.equal(parameter, torch.full_like(parameter, 7))
    assert weight(net) is parameter  # the optimizer's


def test_applied_gives_the_weights_back_after_an_exception() -> None:
    net = network()
    ema = EMA(net, decay=0.5)
    fill(net, 7.0)
    with pytest.raises(RuntimeError, match="planted"), ema.applied():
        raise RuntimeError("planted")
    assert all((parameter == 7).all() for parameter in net.parameters())


def test_state_survives() -> None:
    net = network()
    ema = EMA(net, decay=0.5)
    fill(net, 7.0)
    ema.update()
    state = {name: value.clone() for name, value in ema.state_dict().items()}
    fresh = EMA(net, decay=0.5)
    assert not torch.equal(fresh.state_dict()["0.weight"], state["0.weight"])
    fresh.load_state_dict(state)
    assert all(torch.equal(value, state[n]) for n, value in fresh.state_dict().items())
    fresh.update()
    assert not torch.equal(fresh.state_dict()["0.weight"], state["0.weight"])  # a copy was loaded


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_another_networks_average_is_refused(change: str) -> None:
    ema = EMA(network(), decay=0.5)
    state = {name: torch.zeros_like(value) for name, value in ema.state_dict().items()}
    if change == "missing":
        del state["1.bias"]
    else:
        state["2.bias"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match="another network"):
        ema.load_state_dict(state)
    assert any(value.any() for value in ema.state_dict().values())
