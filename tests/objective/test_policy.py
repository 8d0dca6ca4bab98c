"""The policy term: values and gradients in every case of the clip."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from ddrl.objective.policy import (
    clipped_ratio_loss,
    is_clipped,
    kl_to_come,
    reinforce_loss,
    return_correction,
)

LOW, HIGH = 0.2, 0.3  # asymmetric, so that the sides can't be mixed up

# ratio, advantage, loss, d loss / d ratio
CASES = [
    pytest.param(1.5, 2.0, -2.6, 0.0, id="too_high_and_good"),
    pytest.param(1.5, -2.0, 3.0, 2.0, id="too_high_and_bad"),
    pytest.param(0.5, 2.0, -1.0, -2.0, id="too_low_and_good"),
    pytest.param(0.5, -2.0, 1.6, 0.0, id="too_low_and_bad"),
    pytest.param(1.25, 2.0, -2.5, -2.0, id="inside_high_and_good"),
    pytest.param(0.85, -2.0, 1.7, 2.0, id="inside_low_and_bad"),
    pytest.param(1.0, 2.0, -2.0, -2.0, id="first_update_good"),
    pytest.param(1.0, -2.0, 2.0, 2.0, id="first_update_bad"),
]


@pytest.mark.parametrize(("ratio", "advantage", "value", "slope"), CASES)
def test_clipped_ratio(ratio: float, advantage: float, value: float, slope: float) -> None:
    rho = torch.tensor([ratio], dtype=torch.float64, requires_grad=True)
    a = torch.tensor([advantage], dtype=torch.float64)
    loss = clipped_ratio_loss(rho, a, clip_low=LOW, clip_high=HIGH)
    (gradient,) = torch.autograd.grad(loss.sum(), rho)
    assert float(loss.detach()) == pytest.approx(value)
    assert float(gradient) == pytest.approx(slope)
    clipped = is_clipped(rho.detach(), a, clip_low=LOW, clip_high=HIGH)
    assert bool(clipped) == (slope == 0)


def test_is_clipped_where_there_is_no_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    ratio = (0.5 * torch.randn(500, generator=generator)).exp().requires_grad_()
    advantage = torch.randn(500, generator=generator)
    loss = clipped_ratio_loss(ratio, advantage, clip_low=LOW, clip_high=HIGH)
    (gradient,) = torch.autograd.grad(loss.sum(), ratio)
    clipped = is_clipped(ratio.detach(), advantage, clip_low=LOW, clip_high=HIGH)
    assert 50 < int(clipped.sum()) < 450
    assert torch.equal(clipped, gradient == 0)
    assert torch.equal(gradient[~clipped], -advantage[~clipped])


def test_clipped_ratio_is_pessimistic() -> None:
    """Never below the plain importance-weighted loss."""
    generator = torch.Generator().manual_seed(1)
    ratio = (0.5 * torch.randn(500, generator=generator)).exp()
    advantage = torch.randn(500, generator=generator)
    loss = clipped_ratio_loss(ratio, advantage, clip_low=LOW, clip_high=HIGH)
    assert (loss >= -ratio * advantage).all()


def test_one_update_gives_reinforce_s_gradient() -> None:
    """At rho = 1 both policy terms have the gradient -A grad log p."""
    generator = torch.Generator().manual_seed(2)
    log_prob = torch.randn(6, generator=generator).requires_grad_()
    advantage = torch.randn(6, generator=generator)
    ratio = (log_prob - log_prob.detach()).exp()
    grpo = clipped_ratio_loss(ratio, advantage, clip_low=1e-4, clip_high=1e-4)
    (of_grpo,) = torch.autograd.grad(grpo.sum(), log_prob)
    reinforce = reinforce_loss(log_prob, advantage)
    (of_reinforce,) = torch.autograd.grad(reinforce.sum(), log_prob)
    assert torch.equal(of_grpo, -advantage)
    assert torch.equal(of_reinforce, -advantage)
    assert torch.equal(reinforce.detach(), -advantage * log_prob.detach())


def test_zero_advantage_gives_no_gradient_and_is_not_a_clip() -> None:
    ratio = torch.tensor([0.1, 1.0, 9.0], requires_grad=True)
    advantage = torch.zeros(3)
    loss = clipped_ratio_loss(ratio, advantage, clip_low=LOW, clip_high=HIGH)
    (gradient,) = torch.autograd.grad(loss.sum(), ratio)
    assert (gradient == 0).all()
    assert not is_clipped(ratio.detach(), advantage, clip_low=LOW, clip_high=HIGH).any()


def test_kl_to_come_against_a_loop() -> None:
    kl = torch.rand(3, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = torch.zeros_like(kl)
    for n in range(3):
        for k in range(5):
            expected[n, k] = sum(float(kl[n, j]) for j in range(k + 1, 5))
    torch.testing.assert_close(kl_to_come(kl), expected)
    assert (kl_to_come(kl)[:, -1] == 0).all()


def test_return_correction_against_a_loop() -> None:
    kl = torch.rand(4, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    group = [0, 1, 0, 1]
    mean = torch.stack(
        [torch.stack([kl_to_come(kl)[m] for m in range(4) if group[m] == g]).mean(0) for g in group]
    )
    found = return_correction(kl, mean, beta=0.3)
    for n in range(4):
        others = [m for m in range(4) if group[m] == group[n]]
        for k in range(3):
            come = {m: sum(float(kl[m, j]) for j in range(k + 1, 3)) for m in others}
            baseline = sum(come.values()) / len(come)
            assert float(found[n, k]) == pytest.approx(-0.3 * (come[n] - baseline), abs=1e-12)
    for g in (0, 1):
        rows = [n for n in range(4) if group[n] == g]
        torch.testing.assert_close(found[rows].sum(0), torch.zeros(3, dtype=torch.float64))


def test_columns_beside_rows_are_refused() -> None:
    """(B, 1) beside (B,) would broadcast to (B, B) and lose the credit assignment."""
    row, column = torch.ones(4), torch.ones(4, 1)
    for first, second in ((column, row), (row, column), (row, torch.ones(1))):
        with pytest.raises(jaxtyping.TypeCheckError):
            reinforce_loss(first, second)
        with pytest.raises(jaxtyping.TypeCheckError):
            clipped_ratio_loss(first, second, clip_low=LOW, clip_high=HIGH)
        with pytest.raises(jaxtyping.TypeCheckError):
            is_clipped(first, second, clip_low=LOW, clip_high=HIGH)
    with pytest.raises(jaxtyping.TypeCheckError):
        return_correction(torch.ones(4, 3), torch.ones(4, 1), beta=1.0)
