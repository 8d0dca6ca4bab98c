"""A finished or running run on disk: its model, ready to sample, and what is known of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ddrl.builders.data.corpus import Corpus
from ddrl.builders.device import device_to_read
from ddrl.builders.identity import trained_part
from ddrl.builders.pretrained import check_model_path
from ddrl.builders.sampler import build_forward
from ddrl.builders.scorers import build_scorer
from ddrl.builders.store import Progress
from ddrl.builders.tasks.table import task_of
from ddrl.builders.tasks.task import Model, Task
from ddrl.builders.verify import DataRow, base_identity, check_base, check_data, reading_hint
from ddrl.errors import CheckpointError
from ddrl.models.ema import share_followed
from ddrl.models.lora.adapter import has_lora
from ddrl.recipe import Recipe
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.runs.folder import RunFolder, read_info, read_recipe
from ddrl.training.checkpoint import CheckpointFolder, load_weights, set_weights
from ddrl.training.forward import Forward
from ddrl.training.logs.sinks import read_metrics
from ddrl.training.manifest import Checkpoint, read_manifest

logger = logging.getLogger(__name__)

Step = int | Literal["best"]
"""The step of a checkpoint, or the checkpoint that the audit marked as the best."""

Weights = Literal["ema", "raw", "base"]
"""Averaged weights, weights as the optimizer left them, or those before post-training."""


@dataclass(frozen=True)
class LoadedRun:
    """A run whose model can be sampled.

    Attributes:
        folder: where it is.
        name: the last part of its folder.
        recipe: what it was trained with.
        step: iterations behind these weights; 0 for the base.
        weights: which of them.
        model: the model with these weights, on ``device``.
        forward: the same, with the rollout's guidance.
        start: the trained weights as they were before training.
        task: what the run is about.
        device: where the model is.
        metrics: one mapping per iteration behind these weights, in order.
        info: what the run was started with, see ``run.json``; empty where that is missing.
        checkpoint: of these weights; of the base, the run's newest one, if there is any.
    """

    folder: Path
    name: str
    recipe: Recipe
    step: int
    weights: Weights
    model: Model
    forward: Forward
    start: Mapping[str, Tensor]
    task: Task
    device: torch.device
    metrics: list[Mapping[str, Any]]
    info: Mapping[str, Any]
    checkpoint: Checkpoint | None

    @cached_property
    def corpus(self) -> Corpus:
        """The data, encoded when this is first asked for."""
        # Where there are prompts alone, held-out data are samples of the base.
        with self.as_base() if self.task.samples_base else nullcontext():
            return self.task.corpus(self.model)

    def check_data(self, rows: Sequence[DataRow]) -> None:
        """Refuse other data than the run's: see :func:`~ddrl.builders.verify.check_data`."""
        if self.checkpoint is not None:
            hint = reading_hint("data.path")
            check_data(self.checkpoint, rows, self.recipe, hint=hint)

    @cached_property
    def scorer(self) -> Scorer:
        """The rewards, made when this is first asked for."""
        return build_scorer(self.task)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one sample's latents; of several sizes, of the first."""
        return self.latent_shapes[0]

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one sample's latents of each size."""
        return self.task.latent_shapes(self.model)

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Have the model be the base inside the context: its trained weights are swapped."""
        network = self.model.transformer
        now = {n: p.detach().clone() for n, p in network.named_parameters() if n in self.start}
        set_weights(network, self.start)
        try:
            yield
        finally:
            set_weights(network, now)


def load_run(
    folder: Path,
    *,
    step: Step | None = None,
    weights: Weights = "ema",
    needs_base: bool = False,
    overrides: Sequence[str] = (),
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> LoadedRun:
    """Read a run's recipe and weights.

    Args:
        folder: of the run.
        step: of the checkpoint, or ``best``; default: the newest whole one.
        weights: which weights; ``base`` needs no checkpoint.
        needs_base: whether its base is asked for, too, where all of its weights are trained.
        overrides: ``section.key=value``, see :data:`~ddrl.recipe.reading.finished.SET_ANEW`.
        device: of the model; None: the run's own, or the CPU where that is not here.
        progress: told about the base model, where it has to be made again.

    Raises:
        UsageError: the folder is not a run's, or an override is of what was trained.
        RecipeError: its recipe is not one, or an override is none.
        CheckpointError: there is no such checkpoint, it is broken, or of another base.
    """
    run = RunFolder(Path(folder))
    recipe = read_recipe(run, overrides)
    is_base = weights == "base"
    checkpoint = _any_checkpoint(run) if is_base else _find_checkpoint(run, step)
    device, task = device or device_to_read(recipe), task_of(recipe)
    check_model_path(recipe)
    model = task.model(device, progress=progress)
    network = model.transformer
    if checkpoint is not None:
        _check_base(checkpoint, model, task, needs_base=is_base or needs_base)
    start = {n: p.detach().clone() for n, p in network.named_parameters() if p.requires_grad}
    if checkpoint is not None and not is_base:
        name = "ema" if weights == "ema" else "model"
        load_weights(network, checkpoint.tensors(name))
        if weights == "ema":
            _warn_of_short_runs(run, recipe, checkpoint.step)
    network.requires_grad_(False)
    reached = 0 if checkpoint is None or is_base else checkpoint.step
    return LoadedRun(
        folder=run.path,
        name=run.path.resolve().name,
        recipe=recipe,
        step=reached,
        weights=weights,
        model=model,
        forward=build_forward(recipe, model),
        start=start,
        task=task,
        device=device,
        metrics=[row for row in read_metrics(run.metrics) if row["step"] <= reached],
        info=read_info(run),
        checkpoint=checkpoint,
    )


def _check_base(checkpoint: Checkpoint, model: Model, task: Task, *, needs_base: bool) -> None:
    """Refuse another base, see :func:`~ddrl.builders.verify.check_base`."""
    recipe = task.recipe
    is_replaced = not (needs_base or has_lora(model.transformer))
    check_base(
        checkpoint,
        base_identity(model, type(task)),
        recipe,
        hint=reading_hint("model.path" if recipe.model.path else ""),
        replaced=trained_part(model) if is_replaced else "",
    )


def _warn_of_short_runs(run: RunFolder, recipe: Recipe, step: int) -> None:
    """Say where the average is closer to the start than to the weights that training has reached.

    It is told by the number of updates alone, as for weights that move at constant speed.
    """
    section = recipe.optimizer
    updates = step * recipe.objective.updates_per_rollout
    share = share_followed(updates, decay=section.ema, warmup=section.ema_warmup)
    if share < 0.5:
        logger.warning(
            "%s has averaged weights that hold about %.0f %% of its change: it has %d updates, and "
            "optimizer.ema is %g. `ddrl sample` and `ddrl export` take the weights themselves with "
            "--raw; train with optimizer.ema_warmup = true for a shorter average at first",
            run.path,
            100 * share,
            updates,
            section.ema,
        )


def _any_checkpoint(run: RunFolder) -> Checkpoint | None:
    """The newest whole checkpoint, if there is one."""
    with suppress(CheckpointError):
        return CheckpointFolder(run.checkpoints).latest()
    return None


def _find_checkpoint(run: RunFolder, step: Step | None) -> Checkpoint:
    """The checkpoint of a step, the best by the audit, or the newest whole one.

    Raises:
        CheckpointError: there is none, or it is broken.
    """
    checkpoints = CheckpointFolder(run.checkpoints)
    if step is None:
        newest = checkpoints.latest()
        if newest is None:
            raise CheckpointError(
                f"{run.path} has no checkpoint yet.",
                hint="wait for the first one (see run.checkpoint_every), or train it further",
            )
        return newest
    if step == "best":
        best = checkpoints.best()
        if best is None:
            raise CheckpointError(
                f"{run.path} has no checkpoint that is marked as the best.",
                hint="checkpoints are marked while training with evaluation.panel_samples above 0",
            )
        step = best.step
    there = checkpoints.steps()
    if step not in there:
        raise CheckpointError(
            f"{run.path} has no checkpoint of step {step}.",
            hint=f"it has {', '.join(map(str, there))}" if there else "it has none at all yet",
        )
    return read_manifest(checkpoints.path(step))
