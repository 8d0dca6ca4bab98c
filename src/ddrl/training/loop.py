"""Runs a trainer to its end: metrics, checkpoints, audits, resume, stopping when asked.

A step is recorded in this order, so that a kill or a failure between any two lines costs work at
most, and a run that is resumed ends with the weights, rows and audits of one that nothing stopped:

    1. the iteration; it touches weights only after all of its rewards are there
    2. its row in the metrics; the guard checks it
    3. its audit where one is due and training waits for it; a row of the same step; the guard
    4. a checkpoint where one is due; its notes say which step was audited last
    5. its audit where one is due and training goes on; when that is done a row of the same step,
       the guard, and the checkpoint's notes; the next checkpoint waits for this

A resume takes the newest whole checkpoint. Rows of later steps are dropped, and so are rows of
audits that its notes don't know: these are made again before training goes on.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddrl.errors import DDRLError, GuardStop, RewardError
from ddrl.training.checkpoint import CheckpointFolder, load_weights
from ddrl.training.logs.shown import Shown
from ddrl.training.logs.sinks import MetricSink
from ddrl.training.manifest import Checkpoint
from ddrl.training.safety.auditing import Audit, AuditRecord, auditing
from ddrl.training.trainer import Trainer

logger = logging.getLogger(__name__)


def train(
    trainer: Trainer,
    num_steps: int,
    *,
    sinks: Sequence[MetricSink] = (),
    checkpoints: CheckpointFolder | None = None,
    checkpoint_every: int = 0,
    recipe: str = "",
    notes: Mapping[str, Any] | None = None,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Iterate until ``num_steps`` iterations are finished.

    Args:
        trainer: the trainer to run; it may have been restored.
        num_steps: iterations in all, including those before a resume.
        sinks: take the metrics of every iteration, and those of audits as rows of their own.
        checkpoints: where to save; also at the end, when asked to stop, and when a reward fails.
        checkpoint_every: iterations between checkpoints; 0 is at the end only.
        recipe: recipe that checkpoints store, as TOML.
        notes: notes that checkpoints store, as JSON.
        on_step: called after each iteration with its number and metrics.
        should_stop: asked after each iteration; true saves and returns.

    Returns:
        True where all iterations are finished, false where it was asked to stop.

    Raises:
        GuardStop: the run went wrong; the iteration at fault is not saved.
        RewardError: a reward failed where that is not allowed; the iterations before are saved.
        CheckpointError: a checkpoint can't be written.
        UsageError: audits in another process have no checkpoints to audit.
    """
    watch = trainer.watch
    book = _Book(trainer, sinks, checkpoints, recipe, dict(notes or {}), trainer.step)
    with auditing(watch.auditor, checkpoints=checkpoints), book.keeping():
        book.make_up()
        while trainer.step < num_steps:
            metrics = trainer.iteration()
            book.write(metrics, step=trainer.step)
            watch.guard.check(metrics, step=trainer.step)
            found = {**book.audit(), **book.take(wait=False)}
            if on_step is not None:
                on_step(trainer.step, {**metrics, **found})
            stop = should_stop()
            due = checkpoint_every and trainer.step % checkpoint_every == 0
            audited = watch.auditor is not None and watch.is_due(trainer.step)
            best = watch.audits.is_best and watch.audits.step == trainer.step
            if due or stop or best or audited or trainer.step == num_steps:
                book.save()
                if audited and not stop:
                    book.begin()
            if stop:
                break
        book.take(wait=True)
    return trainer.step >= num_steps


@dataclass
class _Book:
    """Records what a trainer does.

    Attributes:
        saved: the step of the newest checkpoint.
        begun: the step whose checkpoint is being audited while training goes on; or 0.
    """

    trainer: Trainer
    sinks: Sequence[MetricSink]
    checkpoints: CheckpointFolder | None
    recipe: str
    notes: Mapping[str, Any]
    saved: int
    begun: int = 0

    def write(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Write a row of the metrics."""
        for sink in self.sinks:
            sink.write(metrics, step=step)

    def show(self, shown: Shown | None, *, sentence: str, step: int) -> None:
        """Show samples, and what an audit says."""
        for one in self.sinks:
            one.show(shown, sentence=sentence, step=step)

    def make_up(self) -> None:
        """Audit the checkpoint that was resumed from, if it still has to be."""
        self.audit(is_saved=True)
        watch = self.trainer.watch
        if watch.auditor is not None and watch.is_due(self.trainer.step):
            self.begin()

    def audit(self, *, is_saved: bool = False) -> Mapping[str, float]:
        """Audit the weights as they are, where that is due, while training waits."""
        trainer = self.trainer
        if trainer.watch.monitor is None or not trainer.watch.is_due(trainer.step):
            return {}
        return self._record(trainer.audit(), is_saved=is_saved)

    def begin(self) -> None:
        """Begin to audit the newest checkpoint while training goes on."""
        auditor = self.trainer.watch.auditor
        assert auditor is not None
        self.begun = self.trainer.step
        auditor.begin(self.begun)

    def take(self, *, wait: bool) -> Mapping[str, float]:
        """Record the audit that was begun, once it is done; empty where none is."""
        auditor = self.trainer.watch.auditor
        audit = None if auditor is None else auditor.collect(wait=wait)
        return {} if audit is None else self._record(audit, is_saved=True)

    def _record(self, audit: Audit, *, is_saved: bool) -> Mapping[str, float]:
        """Write an audit's row, have the guard look at it, and note it in its checkpoint."""
        watch = self.trainer.watch
        record, metrics = watch.audits.after(audit), dict(audit.metrics)
        if "audit/hacked" in metrics:
            metrics["audit/best"] = float(record.is_best)
        self.write(metrics, step=audit.step)
        self.show(audit.shown or self.trainer.shown, sentence=audit.sentence, step=audit.step)
        watch.guard.check(metrics, step=audit.step)
        watch.guard.check_audits(record, audit.sentence)
        watch.audits = record
        if is_saved and self.checkpoints is not None:
            self.checkpoints.annotate(audit.step, record.notes())
        self.begun = 0
        return metrics

    def save(self) -> None:
        """Write a checkpoint; not before the audit of the one before it is recorded."""
        if self.checkpoints is None:
            return
        self.take(wait=True)
        save(self.trainer, self.checkpoints, recipe=self.recipe, notes=self.notes)
        if self.trainer.watch.monitor is None and self.trainer.watch.auditor is None:
            self.show(self.trainer.shown, sentence="", step=self.trainer.step)
        self.saved = self.trainer.step

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Save what is whole when a reward fails: it does before an iteration touches a weight."""
        try:
            yield
        except RewardError:
            try:
                if self.begun:
                    self.take(wait=True)
                # Without that audit the run has to go on from its checkpoint, to make it again.
                is_ahead = self.trainer.step > self.saved and not self.begun
                if self.checkpoints is not None and is_ahead:
                    self.save()
                    logger.info("the %d steps before it are saved", self.trainer.step)
            except DDRLError as error:
                logger.warning("%s", error.message)
            raise


def save(
    trainer: Trainer,
    checkpoints: CheckpointFolder,
    *,
    recipe: str = "",
    notes: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Write a checkpoint of everything that the next iteration depends on.

    Args:
        trainer: the trainer to save.
        checkpoints: the folder to save it to.
        recipe: recipe to store with it, as TOML.
        notes: notes to store with it; the record of the audits is added.

    Raises:
        CheckpointError: it can't be written.
        GuardStop: a weight is not finite, so that nothing could go on from it.
    """
    network, learner, watch = trainer.forward.model.transformer, trainer.learner, trainer.watch
    trainable = {n: p for n, p in network.named_parameters() if p.requires_grad}
    _check_finite(trainable, step=trainer.step)
    state: dict[str, Any] = {
        # The position in the data, too: what is dealt is a function of the step.
        "step": trainer.step,
        "optimizer": learner.optimizer.state_dict(),
        "scheduler": learner.scheduler.state_dict(),
        # All of ddrl's own randomness is named; this is for rewards and models that use
        # the global generator.
        "torch_rng": torch.get_rng_state(),
        "budget": None if watch.budget is None else watch.budget.state_dict(),
    }
    return checkpoints.save(
        step=trainer.step,
        tensors={"model": trainable, "ema": learner.ema.state_dict()},
        state=state,
        recipe=recipe,
        notes={**(notes or {}), **watch.audits.notes()},
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
        hint="lower optimizer.learning_rate",
    )


def restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Continue from a checkpoint as if the run had never stopped.

    The results are bitwise the same on a CPU of the same machine with the same versions and as
    many threads. Elsewhere sums are taken in another order, and the last bits differ.

    Raises:
        CheckpointError: it is of another network, or can't be read.
    """
    learner, watch = trainer.learner, trainer.watch
    load_weights(trainer.forward.model.transformer, checkpoint.tensors("model"))
    learner.ema.load_state_dict(checkpoint.tensors("ema"))
    state = checkpoint.state()
    learner.optimizer.load_state_dict(state["optimizer"])
    learner.scheduler.load_state_dict(state["scheduler"])
    learner.ema.num_updates = learner.scheduler.last_epoch  # both count optimizer steps
    torch.set_rng_state(state["torch_rng"])
    if watch.budget is not None:
        watch.budget.load_state_dict(state.get("budget") or {})
        learner.set_beta(watch.budget.beta)
    trainer.step = int(state["step"])
    watch.audits = AuditRecord.of(checkpoint)
