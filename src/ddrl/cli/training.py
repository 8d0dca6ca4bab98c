"""A run in its folder: locked, resumed, stopped by signals, and told about."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ddrl.cli.terminal.interrupts import Interrupted, Interrupts
from ddrl.cli.terminal.lock import FolderLock
from ddrl.cli.terminal.output import format_change, say
from ddrl.cli.terminal.progress import Reporter, make_reporter
from ddrl.cli.terminal.streams import results_are_kept
from ddrl.errors import CheckpointError, GuardStop, RecipeError, UsageError

if TYPE_CHECKING:
    from ddrl.jobs.train.trainer import Job
    from ddrl.recipe import Recipe
    from ddrl.training.logs.sinks import MetricSink
    from ddrl.training.manifest import Checkpoint
    from ddrl.training.trainer import Trainer

logger = logging.getLogger(__name__)


class TrainingRun:
    """What ``ddrl train`` does with a recipe.

    Args:
        recipe: of the run.
        command: what the user typed, to be named where it resumes.
    """

    def __init__(self, recipe: Recipe, command: str) -> None:
        from ddrl.recipe import dump_toml, resolve_paths
        from ddrl.runs.folder import RunFolder
        from ddrl.training.checkpoint import CheckpointFolder

        # What the run keeps holds in any working folder; what is shown is what was typed.
        self._recipe, self._command = resolve_paths(recipe), command
        self._folder = RunFolder(Path(recipe.run.folder))
        self._text = dump_toml(self._recipe)
        self._checkpoints = CheckpointFolder(
            self._folder.checkpoints, keep=recipe.run.keep_checkpoints
        )

    def execute(self) -> None:
        """Start the run, or resume it, and train to its end.

        Raises:
            UsageError: the folder is in use, or can't be written.
            CheckpointError: its checkpoints are broken, or of another recipe.
            GuardStop: the run went wrong.
            typer.Exit: a signal asked for the end, and the run is saved.
        """
        results_are_kept()
        with FolderLock(self._folder.lock), Interrupts() as interrupts:
            checkpoint = self._checkpoints.latest()
            if checkpoint is not None:
                self._refuse_another_recipe(checkpoint)
            if checkpoint is not None and self._is_finished(checkpoint):
                say(f"Already finished. {self._summary(checkpoint.step)}")
                return
            if checkpoint is None:
                self._write_start(None)
            with make_reporter() as reporter:
                job = self._build(checkpoint, reporter)
                if checkpoint is not None:  # not before base and data are known to be the run's
                    self._write_start(checkpoint)
                finished = self._train(job, reporter, interrupts)
        if not finished:
            step, steps = job.trainer.step, self._recipe.run.steps
            say(f"Stopped after step {step} of {steps}; a checkpoint is saved.", err=True)
            say(f"Resume with: {self._command}", err=True)
            raise typer.Exit(128 + interrupts.number)
        say(self._summary(job.trainer.step))

    def _is_finished(self, checkpoint: Checkpoint) -> bool:
        """Whether nothing is left to do: no step, and no audit of the last one."""
        from ddrl.training.safety.auditing import AuditRecord

        every, record = self._recipe.evaluation.every, AuditRecord.of(checkpoint)
        is_audited = not record.is_due(checkpoint.step, every)
        return checkpoint.step >= self._recipe.run.steps and is_audited

    def _refuse_another_recipe(self, checkpoint: Checkpoint) -> None:
        from ddrl.builders.verify import MOVABLE, has_identity
        from ddrl.recipe import bit_changes, parse_recipe, resolve_paths, resume_conflicts

        try:
            saved = resolve_paths(
                parse_recipe(checkpoint.recipe, origin=f"{checkpoint.folder}/manifest.json")
            )
        except RecipeError as error:
            raise CheckpointError(
                f"{checkpoint.folder} was made with a recipe that is not one any more: "
                f"{error.message}",
                hint="start afresh in another folder: run.folder=PATH",
            ) from error
        movable = tuple(f"{key}:" for key in MOVABLE) if has_identity(checkpoint) else ()
        conflicts = [
            line for line in resume_conflicts(saved, self._recipe) if not line.startswith(movable)
        ]
        if conflicts:
            raise CheckpointError(
                f"{checkpoint.folder} was made with another recipe (saved -> now): "
                f"{'; '.join(conflicts)}.",
                hint="use the recipe of the run to resume it, or start afresh in another folder: "
                "run.folder=PATH",
            )
        if changes := bit_changes(saved, self._recipe):
            logger.info(
                "going on with %s: the same result, but perhaps for its last bits",
                "; ".join(changes),
            )

    def _write_start(self, checkpoint: Checkpoint | None) -> None:
        """Write what the run is, at its start before anything that takes time."""
        from ddrl.disk import replace_file
        from ddrl.runs.provenance import describe_start

        info = describe_start(self._recipe, shlex.split(self._command))
        if checkpoint is not None:
            before = _read_json(self._folder.info)
            resumed = {
                "step": checkpoint.step,
                "time": info["started"],
                "commit_before": before.get("commit", ""),
            }
            info["started"] = before.get("started", info["started"])
            info["resumed"] = [*before.get("resumed", []), resumed]
        try:
            replace_file(self._folder.recipe, self._text)
            replace_file(self._folder.info, json.dumps(info, indent=1) + "\n")
            self._folder.stopped.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                f"The run folder {self._folder.path} can't be written: {error.strerror}.",
                hint="free some space, or set run.folder to another folder: run.folder=PATH",
            ) from error

    def _build(self, checkpoint: Checkpoint | None, reporter: Reporter) -> Job:
        import torch

        from ddrl.jobs.plan import check_start
        from ddrl.jobs.train.trainer import build_job
        from ddrl.training.loop import restore

        check_start(self._recipe)  # what is wrong is found before any weight is read
        job = build_job(self._recipe, checkpoint=checkpoint, progress=reporter.made)
        # ddrl names all of its randomness; this is for rewards that use the global generator.
        torch.manual_seed(self._recipe.run.seed)
        if checkpoint is not None:
            restore(job.trainer, checkpoint)
            logger.info("resuming after step %d", checkpoint.step)
        logger.info(
            "training on %s: %d steps, into %s",
            job.trainer.sampler.device,
            self._recipe.run.steps,
            self._folder.path,
        )
        return job

    def _train(self, job: Job, reporter: Reporter, interrupts: Interrupts) -> bool:
        from ddrl.training.loop import train

        trainer, recipe = job.trainer, self._recipe
        with ExitStack() as stack:
            sinks = [stack.enter_context(closing(sink)) for sink in self._sinks(trainer)]
            stack.enter_context(self._failures(job))
            reporter.begin(trainer.step, recipe.run.steps)
            interrupts.be_patient(reporter.stopping)
            return train(
                trainer,
                recipe.run.steps,
                sinks=sinks,
                checkpoints=self._checkpoints,
                checkpoint_every=recipe.run.checkpoint_every,
                recipe=self._text,
                notes=job.notes,
                on_step=reporter.step,
                should_stop=lambda: interrupts.number != 0,
            )

    def _sinks(self, trainer: Trainer) -> Iterator[MetricSink]:
        from ddrl.training.logs.dashboards import TensorBoardSink, WandbSink
        from ddrl.training.logs.shown import SampleSheets
        from ddrl.training.logs.sinks import JSONLSink

        run, step = self._recipe.run, trainer.step
        audited = trainer.watch.audits.step
        yield JSONLSink(self._folder.metrics, resume_at=step, audited_at=audited)
        yield SampleSheets(self._folder.shown, resume_at=step)
        if run.tensorboard:
            yield TensorBoardSink(self._folder.path, resume_at=step, recipe=self._text)
        if run.wandb_project:
            name = self._folder.path.resolve().name
            yield WandbSink(run.wandb_project, name=name, config=self._recipe.model_dump())

    @contextmanager
    def _failures(self, job: Job) -> Iterator[None]:
        """Say what is kept when training fails."""
        try:
            yield
        except GuardStop as error:
            self._write_stop(error, job.trainer.step)
            raise
        except Interrupted as stop:
            message = f"{stop}; {self._kept()}\nResume with: {self._command}"
            raise Interrupted(stop.exit_code - 128, message) from None

    def _write_stop(self, error: GuardStop, step: int) -> None:
        stop = {
            "format": "ddrl-stop/1",
            "kind": type(error).__name__,
            "reason": error.message,
            "hint": error.hint,
            "step": step,
        }
        from ddrl.disk import replace_file

        try:
            replace_file(self._folder.stopped, json.dumps(stop, indent=1) + "\n")
        except OSError as failure:
            logger.warning("%s can't be written: %s", self._folder.stopped, failure.strerror)
        logger.info("%s", self._kept())

    def _kept(self) -> str:
        """Which checkpoint is there, in words."""
        newest = self._checkpoints.latest()
        if newest is None:
            return "there is no checkpoint yet (see run.checkpoint_every)"
        return f"the last good checkpoint, of step {newest.step}, is kept in {newest.folder}"

    def _summary(self, step: int) -> str:
        """The run in one line; ``step`` is what it has reached."""
        from ddrl.training.logs.sinks import read_metrics

        rows = [row for row in read_metrics(self._folder.metrics) if row["step"] <= step]
        seconds = sum(row.get("seconds", 0.0) for row in rows)
        parts = [f"{self._folder.path}: {step} steps in {seconds:.0f} s"]
        rewards = [row["reward"] for row in rows if "reward" in row]
        changes = [row["heldout_loss_change"] for row in rows if "heldout_loss_change" in row]
        if rewards:
            parts.append(f"reward {rewards[0]:.3f} -> {rewards[-1]:.3f}")
        if changes:
            parts.append(f"held-out loss {format_change(changes[-1])}")
        command = shlex.join(["ddrl", "evaluate", str(self._folder.path)])
        return f"{', '.join(parts)}. Next: {command}"


def _read_json(path: Path) -> dict[str, Any]:
    from ddrl.disk import read_json

    try:
        value: object = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
