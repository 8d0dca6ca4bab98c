"""Runs a trainer to its end: metrics, checkpoints, resume, stopping when asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ddrl.errors import GuardStop
from ddrl.training.auditing import auditing, take_audit
from ddrl.training.checkpoint import Checkpoint, CheckpointFolder, load_weights
from ddrl.training.sinks import MetricSink
from ddrl.training.trainer import Trainer

__all__ = ["restore", "save", "train"]


def train(
    trainer: Trainer,
    num_steps: int,
    *,
    sinks: Sequence[MetricSink] = (),
    checkpoints: CheckpointFolder | None = None,
    checkpoint_every: int = 0,
    recipe: str = "",
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Iterate until ``num_steps`` iterations are finished.

    Args:
        trainer: what to run; it may have been restored.
        num_steps: iterations in all, those before a resume included.
        sinks: take every iteration's metrics.
        checkpoints: where to save; also at the end, and when asked to stop.
        checkpoint_every: iterations between checkpoints; 0 is at the end only.
        recipe: stored in checkpoints.
        on_step: called after each iteration.
        should_stop: asked after each iteration.

    Returns:
        Whether all iterations were finished (false: it was asked to stop).

    Raises:
        GuardStop: the run went wrong; the iteration at fault is not saved.
        CheckpointError: a checkpoint can't be written.
        UsageError: audits beside training have no checkpoints to audit.
    """
    auditor = trainer.auditor
    take = partial(take_audit, auditor, guard=trainer.guard, sinks=sinks, checkpoints=checkpoints)
    with auditing(auditor, step=trainer.step, checkpoints=checkpoints):
        while trainer.step < num_steps:
            metrics = trainer.iteration()
            for sink in sinks:
                sink.write(metrics, step=trainer.step)
            late = take(wait=False)
            if on_step is not None:
                on_step(trainer.step, {**metrics, **late})
            stop = should_stop()
            due = checkpoint_every and trainer.step % checkpoint_every == 0
            audited = auditor is not None and trainer.step % auditor.every == 0
            best = bool(metrics.get("audit/best"))
            if checkpoints is not None and (
                due or stop or best or audited or trainer.step == num_steps
            ):
                take(wait=True)  # so that the checkpoint it belongs to is still there
                save(trainer, checkpoints, recipe=recipe)
                if best:
                    checkpoints.mark_best(step=trainer.step, score=metrics["audit/score"])
                if auditor is not None and audited and not stop:
                    auditor.begin(trainer.step)
            if stop:
                break
        take(wait=True)
    return trainer.step >= num_steps


def save(trainer: Trainer, checkpoints: CheckpointFolder, *, recipe: str = "") -> Checkpoint:
    """Write a checkpoint of everything that the next iteration depends on.

    Raises:
        CheckpointError: it can't be written.
        GuardStop: a weight is not finite, so that nothing could go on from it.
    """
    network = trainer.forward.model.transformer
    trainable = {n: p for n, p in network.named_parameters() if p.requires_grad}
    _check_finite(trainable, step=trainer.step)
    state: dict[str, Any] = {
        # The position in the data, too: what is dealt is a function of the step.
        "step": trainer.step,
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": trainer.scheduler.state_dict(),
        # All of ddrl's own randomness is named; this is for rewards and models that use
        # the global generator.
        "torch_rng": torch.get_rng_state(),
        "budget": None if trainer.budget is None else trainer.budget.state_dict(),
    }
    return checkpoints.save(
        step=trainer.step,
        tensors={"model": trainable, "ema": trainer.ema.state_dict()},
        state=state,
        recipe=recipe,
    )


def _check_finite(weights: Mapping[str, Tensor], *, step: int) -> None:
    """Refuse to save what an update has spoiled: otherwise the next rollout would find it.

    Raises:
        GuardStop: a weight is not finite; the message names one.
    """
    largest = torch.nn.utils.get_total_norm([w.detach() for w in weights.values()], math.inf)
    if largest.isfinite():
        return
    name = next(name for name, weight in weights.items() if not weight.isfinite().all())
    raise GuardStop(
        f"Weight {name} is not finite after step {step}, so no checkpoint of it is written.",
        hint="lower optimizer.learning_rate; the last good checkpoint is kept",
    )


def restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Continue from a checkpoint, bitwise as if the run had never stopped.

    Raises:
        CheckpointError: it is of another network, or can't be read.
    """
    load_weights(trainer.forward.model.transformer, checkpoint.tensors("model"))
    trainer.ema.load_state_dict(checkpoint.tensors("ema"))
    state = checkpoint.state()
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.scheduler.load_state_dict(state["scheduler"])
    torch.set_rng_state(state["torch_rng"])
    if trainer.budget is not None:
        trainer.budget.load_state_dict(state.get("budget") or {})
        trainer.set_beta(trainer.budget.beta)
    trainer.step = int(state["step"])
