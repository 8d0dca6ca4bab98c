"""Iterations on CUDA are those of the CPU; the same bodies run on the CPU in the ordinary suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.gpu.iterations import TASKS, check_resume, iterations, job, samples_after, weights

HERE = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
        ],
    ),
]
on_devices = pytest.mark.parametrize("device", HERE)
of_tasks = pytest.mark.parametrize("task", TASKS)


@on_devices
@of_tasks
def test_samples_after_three_iterations_are_those_of_the_cpu(
    task: str, device: str, tmp_path: Path
) -> None:
    found = samples_after(job(task, tmp_path, device))
    expected = samples_after(job(task, tmp_path, "cpu"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@on_devices
@of_tasks
@pytest.mark.parametrize("updates", [1, 2])
def test_a_replay_in_bfloat16_has_a_ratio_of_one(
    updates: int, task: str, device: str, tmp_path: Path
) -> None:
    """With gradient in the update, and without in the check at a run's start."""
    made = job(task, tmp_path, device, "run.precision=bfloat16")
    made.trainer.num_updates = updates
    first = iterations(made, 1)[0]
    if updates == 1:
        assert first["ratio_deviation"] == pytest.approx(0, abs=1e-6)
    assert all(torch.tensor(v).isfinite() for v in first.values() if isinstance(v, float))


@on_devices
@of_tasks
def test_micro_batches_of_two_are_micro_batches_of_four(
    task: str, device: str, tmp_path: Path
) -> None:
    found: list[dict[str, Any]] = []
    for size in (2, 4):
        made = job(task, tmp_path, device, f"run.micro_batch={size}")
        iterations(made, 1)
        found.append(weights(made))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-4, atol=1e-5)


@on_devices
@of_tasks
def test_a_resumed_run_is_the_straight_run(task: str, device: str, tmp_path: Path) -> None:
    check_resume(task, tmp_path, device)


@on_devices
def test_a_reward_that_overlaps_changes_nothing(device: str, tmp_path: Path) -> None:
    found = [
        samples_after(
            job("digits", tmp_path, device, "run.micro_batch=2", f"scoring.overlap={overlap}")
        )
        for overlap in ("true", "false")
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), *HERE[1:]])
def test_compiled_is_close_to_uncompiled(device: str, tmp_path: Path) -> None:
    task = "moving_digits"
    plain = samples_after(job(task, tmp_path, device), 1)
    compiled = samples_after(job(task, tmp_path, device, "model.compile=true"), 1)
    torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-3)
