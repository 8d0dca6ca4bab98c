"""A run in its folder: locked, resumed, trained to its end or stopped, and told about."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import torch

from ddrl.builders.device import configured
from ddrl.builders.verify import MOVABLE, has_identity
from ddrl.disk import read_object, replace_file
from ddrl.errors import CheckpointError, GuardStop, RecipeError, UsageError
from ddrl.jobs.plan import check_start
from ddrl.jobs.progress import Reporter, Silent
from ddrl.jobs.train.outcome import TrainingOutcome
from ddrl.jobs.train.trainer import Job, build_job
from ddrl.recipe import (
    Recipe,
    bit_changes,
    dump_toml,
    load_recipe,
    parse_recipe,
    resolve_paths,
    resume_conflicts,
)
from ddrl.recipe.extras import check_extras
from ddrl.runs.folder import RunFolder
from ddrl.runs.lock import FolderLock
from ddrl.runs.provenance import describe_start
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.logs.dashboards import TensorBoardSink, WandbSink
from ddrl.training.logs.shown import SampleSheets
from ddrl.training.logs.sinks import JSONLSink, MetricSink
from ddrl.training.loop import restore
from ddrl.training.loop import train as train_to_the_end
from ddrl.training.manifest import Checkpoint
from ddrl.training.safety.auditing import AuditRecord
from ddrl.training.trainer import Trainer

logger = logging.getLogger(__name__)


def train(
    recipe: Recipe | Path | str,
    overrides: Sequence[str] = (),
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingOutcome:
    """Post-train a model as a recipe says; the same call resumes a run that was stopped.

    What ``ddrl train`` does, except that signals are the caller's: Ctrl-C raises
    ``KeyboardInterrupt`` at once, and the run goes on from its last checkpoint.

    Args:
        recipe: a file, the name of a recipe that comes with ddrl, or a recipe in memory.
        overrides: ``section.key=value``, of a recipe that is read.
        should_stop: asked after each iteration; true makes the run save and end.

    Returns:
        How far the run is; its weights, metrics and audits are in ``run.folder``.

    Raises:
        RecipeError: the recipe can't be read, or is not what it should be.
        UsageError: overrides of a recipe in memory; the folder is in use or can't be written.
        GuardStop: the run went wrong and is stopped.
        DDRLError: of the kind that fits, for whatever the recipe asks for and can't get.

    Example:
        >>> import ddrl
        >>> ddrl.train("digits", ["run.steps=10"]).folder  # doctest: +SKIP
        PosixPath('runs/digits')
    """
    if isinstance(recipe, Recipe):
        if overrides:
            raise UsageError(
                "Overrides are for a recipe that is read from a file.",
                hint="change the recipe itself, or pass its path",
            )
        loaded, origin = recipe, str(Path(recipe.run.folder) / "recipe.toml")
    else:
        loaded, origin = load_recipe(Path(recipe), list(overrides)), str(recipe)
    check_extras(loaded)
    run = TrainingRun(loaded, shlex.join(["ddrl", "train", origin, *overrides]))
    with configured(loaded):
        return run.execute(should_stop=should_stop)


class TrainingRun:
    """A recipe's run.

    Args:
        recipe: of the run.
        command: that resumes it, for ``run.json``.

    Attributes:
        is_training: whether it is past its start, so that there may be something to keep.
    """

    def __init__(self, recipe: Recipe, command: str) -> None:
        # What the run keeps holds in any working folder; what is shown is what was typed.
        self._recipe, self._command = resolve_paths(recipe), command
        self._folder = RunFolder(Path(recipe.run.folder))
        self._text = dump_toml(self._recipe)
        self._checkpoints = CheckpointFolder(
            self._folder.checkpoints, keep=recipe.run.keep_checkpoints
        )
        self.is_training = False

    def execute(
        self,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        make_reporter: Callable[[], Reporter] = Silent,
        on_start: Callable[[Reporter], None] = lambda _reporter: None,
    ) -> TrainingOutcome:
        """Start the run, or resume it, and train until it is finished or asked to stop.

        Args:
            should_stop: asked after each iteration; true makes the run save and end.
            make_reporter: called once there is something to report.
            on_start: called before the first iteration, when ``should_stop`` begins to count.

        Raises:
            UsageError: the folder is in use, or can't be written.
            CheckpointError: its checkpoints are broken, or of another recipe.
            GuardStop: the run went wrong.
        """
        with FolderLock(self._folder.lock):
            checkpoint = self._checkpoints.latest()
            if checkpoint is not None:
                self._refuse_another_recipe(checkpoint)
                if self._is_finished(checkpoint):
                    return TrainingOutcome.read(
                        self._folder, checkpoint.step, self._recipe.run.steps, was_finished=True
                    )
            else:
                self._write_start(None)
            with _own_randomness(), make_reporter() as reporter:
                job = self._build(checkpoint, reporter)
                if checkpoint is not None:  # not before base and data are known to be the run's
                    self._write_start(checkpoint)
                finished = self._train(job, reporter, should_stop, on_start)
        return TrainingOutcome.read(
            self._folder, job.trainer.step, self._recipe.run.steps, finished=finished
        )

    def kept(self) -> str:
        """Say which checkpoint there is."""
        newest = self._checkpoints.latest()
        if newest is None:
            return "there is no checkpoint yet (see run.checkpoint_every)"
        return f"the last good checkpoint, of step {newest.step}, is kept in {newest.folder}"

    def _is_finished(self, checkpoint: Checkpoint) -> bool:
        """Return whether nothing is left to do: no step, and no audit of the last one."""
        is_due = AuditRecord.of(checkpoint).is_due(checkpoint.step, self._recipe.evaluation.every)
        return checkpoint.step >= self._recipe.run.steps and not is_due

    def _refuse_another_recipe(self, checkpoint: Checkpoint) -> None:
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
        info = describe_start(self._recipe, shlex.split(self._command))
        if checkpoint is not None:
            before = read_object(self._folder.info)
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

    def _train(
        self,
        job: Job,
        reporter: Reporter,
        should_stop: Callable[[], bool],
        on_start: Callable[[Reporter], None],
    ) -> bool:
        trainer, recipe = job.trainer, self._recipe
        with ExitStack() as stack:
            sinks = [stack.enter_context(closing(sink)) for sink in self._sinks(trainer)]
            stack.enter_context(self._stops_written(trainer))
            reporter.begin(trainer.step, recipe.run.steps)
            self.is_training = True
            on_start(reporter)
            return train_to_the_end(
                trainer,
                recipe.run.steps,
                sinks=sinks,
                checkpoints=self._checkpoints,
                checkpoint_every=recipe.run.checkpoint_every,
                recipe=self._text,
                notes=job.notes,
                on_step=reporter.step,
                should_stop=should_stop,
            )

    def _sinks(self, trainer: Trainer) -> Iterator[MetricSink]:
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
    def _stops_written(self, trainer: Trainer) -> Iterator[None]:
        """Write why the guard stopped the run, if it does."""
        try:
            yield
        except GuardStop as error:
            stop = {
                "format": "ddrl-stop/1",
                "kind": type(error).__name__,
                "reason": error.message,
                "hint": error.hint,
                "step": trainer.step,
            }
            try:
                replace_file(self._folder.stopped, json.dumps(stop, indent=1) + "\n")
            except OSError as failure:
                logger.warning("%s can't be written: %s", self._folder.stopped, failure.strerror)
            logger.info("%s", self.kept())
            raise


def _own_randomness() -> AbstractContextManager[None]:
    """Give the caller's global generators back as they were: a run seeds them for its rewards."""
    forked: AbstractContextManager[None] = torch.random.fork_rng(range(torch.cuda.device_count()))
    return forked
