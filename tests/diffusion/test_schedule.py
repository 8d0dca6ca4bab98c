"""Time grids and the choice of trained steps."""

from __future__ import annotations

import pytest
import torch

from ddrl.diffusion.schedule import select_steps, time_grid
from ddrl.errors import UsageError


@pytest.mark.parametrize("num_steps", [1, 2, 7, 50])
@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0, 5.0])
def test_grid_runs_down_from_1_to_0(num_steps: int, shift: float) -> None:
    times = time_grid(num_steps, shift=shift)
    assert times.shape == (num_steps + 1,)
    assert times.dtype == torch.float64
    assert (float(times[0]), float(times[-1])) == (1.0, 0.0)
    assert (times.diff() < 0).all()


@pytest.mark.parametrize("shift", [0.5, 3.0, 5.0])
def test_shift_in_closed_form_and_back(shift: float) -> None:
    uniform, shifted = time_grid(10), time_grid(10, shift=shift)
    expected = [shift * (k / 10) / (1 + (shift - 1) * (k / 10)) for k in range(10, -1, -1)]
    torch.testing.assert_close(shifted, torch.tensor(expected, dtype=torch.float64))
    back = shifted / (shift - (shift - 1) * shifted)  # the inverse map
    torch.testing.assert_close(back, uniform)
    assert ((shifted - uniform)[1:-1] * (shift - 1) > 0).all()  # towards noise above 1


def test_shift_multiplies_the_noise_to_signal_ratio() -> None:
    """The meaning of the shift: sigma / alpha of rectified flow grows by it."""
    uniform, shifted = time_grid(10)[1:], time_grid(10, shift=3.0)[1:]
    torch.testing.assert_close(shifted / (1 - shifted), 3 * uniform / (1 - uniform))


def test_shift_1_is_uniform() -> None:
    expected = torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64)
    assert torch.equal(time_grid(4), expected)


@pytest.mark.parametrize(("num_steps", "shift"), [(0, 1.0), (-1, 1.0), (5, 0.0), (5, -2.0)])
def test_impossible_grids(num_steps: int, shift: float) -> None:
    with pytest.raises(UsageError, match="at least 1 step and a positive shift"):
        time_grid(num_steps, shift=shift)


def test_select_steps() -> None:
    allowed = [True, True, False, True]
    assert select_steps("all", allowed) == (0, 1, 3)
    assert select_steps([3, 0, 3], allowed) == (0, 3)
    assert select_steps((1,), allowed) == (1,)


def test_select_steps_says_what_is_wrong() -> None:
    allowed = [True, True, False]
    with pytest.raises(UsageError, match="Step 2 is deterministic"):
        select_steps([0, 2], allowed)
    for step in (3, -1):
        with pytest.raises(UsageError, match=f"Step {step} is not one of the 3 steps"):
            select_steps([step], allowed)
    with pytest.raises(UsageError, match="nothing to train"):
        select_steps("all", [False, False])
    with pytest.raises(UsageError, match="nothing to train"):
        select_steps([], allowed)
