"""What an iteration must hold on any device: bodies for the GPU's tests, proven on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddrl.jobs.train.trainer import Job, build_job
from ddrl.recipe import Recipe, parse_recipe
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.loop import train

TASKS = {
    "digits": ('source = "digits"\n', 'name = "ink"\n', ""),
    "moving_digits": (
        'source = "moving_digits"\nheight = 12\nwidth = 12\nframes = 8\n',
        'name = "ink"\n',
        'network = "dit"\nheads = 2\npatch = 6\npatch_frames = 8\n',
    ),
}


def recipe(task: str, folder: Path, *overrides: str) -> Recipe:
    """A small job of a task; its base is made once on the CPU and found by the others."""
    data, reward, network = TASKS[task]
    text = f"""
[model]
width = 32
depth = 1
{network}
[model.pretrain]
steps = 2
batch_size = 8
[data]
{data}
[[reward]]
{reward}
[rollout]
prompts_per_step = 2
group_size = 4
steps = 4
[guard]
max_grad_norm = 1e9
[evaluation]
every = 0
[run]
steps = 4
threads = 1
"""
    where = [f"run.folder={folder / 'run'}", f"run.cache={folder / 'cache'}"]
    return parse_recipe(text, overrides=[*where, *overrides])


def job(task: str, folder: Path, device: str, *overrides: str) -> Job:
    """The job on a device, from the base that the CPU made."""
    if device != "cpu":
        build_job(recipe(task, folder, "run.device=cpu"))
    return build_job(recipe(task, folder, f"run.device={device}", *overrides))


def weights(made: Job) -> dict[str, Tensor]:
    """The policy's weights, on the CPU."""
    network = made.trainer.forward.model.transformer
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def samples_after(made: Job, iterations: int = 3) -> Tensor:
    """Latents of one more rollout after some iterations, on the CPU."""
    trainer = made.trainer
    for _ in range(iterations):
        trainer.iteration()
    from ddrl.training.logs.clock import Clock

    hand = trainer.dealer.deal(trainer.step)
    found = trainer.collector.collect(hand, step=trainer.step, clock=Clock())
    return found.trajectory.latents.float().cpu()


def iterations(made: Job, number: int = 2) -> list[dict[str, Any]]:
    """The metrics of some iterations."""
    return [dict(made.trainer.iteration()) for _ in range(number)]


def check_resume(task: str, folder: Path, device: str) -> None:
    """Two steps, a checkpoint and two more are four steps, bit for bit."""
    straight = job(task, folder, device)
    train(straight.trainer, 4, sinks=[], checkpoints=CheckpointFolder(folder / "straight"))
    kept = CheckpointFolder(folder / "kept")
    train(job(task, folder, device).trainer, 2, sinks=[], checkpoints=kept)
    resumed = job(task, folder, device)
    train(resumed.trainer, 4, sinks=[], checkpoints=kept)
    assert resumed.trainer.step == 4
    first, second = weights(straight), weights(resumed)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
