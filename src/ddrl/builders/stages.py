"""One run after another: whose weights a run begins with."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from ddrl.disk import read_document
from ddrl.errors import DDRLError, WeightsError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.lora.adapter import LoRASettings, add_lora, merge_lora
from ddrl.models.lora.start import StartAdapter, adapter_files, bind_adapter, read_adapter
from ddrl.recipe.reading.load import parse_recipe
from ddrl.recipe.recipe import Recipe
from ddrl.training.checkpoint import CheckpointFolder, load_weights
from ddrl.training.manifest import Checkpoint

logger = logging.getLogger(__name__)


def check_starts(recipe: Recipe) -> None:
    """See that what a recipe starts from is there, before anything is loaded.

    Raises:
        WeightsError: it is not.
    """
    if recipe.model.start:
        _newest(Path(recipe.model.start), "model.start")
    if recipe.model.lora.start:
        path = Path(recipe.model.lora.start)
        if (path / "checkpoints").is_dir():
            _newest(path, "model.lora.start")
        else:
            adapter_files(path)


def newest_weights(run: Path) -> dict[str, Tensor]:
    """The averaged weights that a run begins with.

    Raises:
        WeightsError: it is no run, or has no checkpoint.
    """
    checkpoint = _newest(run, "model.start")
    logger.info("starting from %s, step %d", run, checkpoint.step)
    return checkpoint.tensors("ema")


def start_from(model: DiffusersModel, run: Path) -> None:
    """Make the averaged weights of a run the base; its adapter is merged.

    Args:
        model: the base that the run started from.
        run: its folder.

    Raises:
        WeightsError: it is no run, or has no checkpoint.
        CheckpointError: it is a run of another network.
    """
    weights, recipe = newest_weights(run), _recipe_of(run)
    if recipe.model.lora.is_used:
        if recipe.model.start:
            start_from(model, Path(recipe.model.start))
        adapter = _of_run(run, model, "model.start")
        settings = LoRASettings(adapter.rank, float(adapter.rank), dora=adapter.is_dora)
        add_lora(model.transformer, settings, targets=(), ranks=adapter.ranks)
        adapter.load(model.transformer)
        merge_lora(model.transformer)
    else:
        dtype = model.dtype
        model.train_all()
        load_weights(model.transformer, weights)
        model.transformer.to(dtype)
    model.transformer.requires_grad_(False)


def read_start(recipe: Recipe, model: DiffusersModel) -> StartAdapter | None:
    """The adapter that a recipe goes on with, if it names one.

    Raises:
        WeightsError: it can't be read, is of another network, or not what the recipe says.
    """
    section = recipe.model.lora
    if not section.start:
        return None
    path = Path(section.start)
    is_run = (path / "checkpoints").is_dir()
    adapter = _of_run(path, model, "model.lora.start") if is_run else read_adapter(path, model)
    wrong = ""
    if section.rank and section.rank != adapter.rank:
        wrong = f"model.lora.rank is {section.rank}, but {path} has rank {adapter.rank}"
    elif section.dora and not adapter.is_dora:
        wrong = f"model.lora.dora is true, but {path} has no magnitudes"
    if wrong:
        raise WeightsError(f"{wrong}.", hint="leave it out: the adapter decides")
    logger.info("going on with the adapter of %s, rank %d", path, adapter.rank)
    return adapter


def _of_run(run: Path, model: DiffusersModel, key: str) -> StartAdapter:
    """The averaged adapter of a run.

    Raises:
        WeightsError: it has none, or its network is another one.
    """
    section = _recipe_of(run).model.lora
    tensors = {n: t.float() for n, t in _newest(run, key).tensors("ema").items()}
    if not section.is_used:
        raise WeightsError(
            f"{key} is {run}, which trained all weights and has no adapter.",
            hint=f'give it as model.start = "{run}"',
        )
    found = bind_adapter(tensors, model, model.transformer, source=str(run))
    # What an adapter's parameters are scaled by is in the recipe, not in the checkpoint.
    scale = (section.alpha or 2.0 * found.rank) / found.rank
    modules = {
        name: {**parts, "alpha": torch.tensor(scale * len(parts["lora_A"]))}
        for name, parts in found.modules.items()
    }
    return StartAdapter(str(run), modules)


def _recipe_of(run: Path) -> Recipe:
    path = run / "recipe.toml"
    try:
        return parse_recipe(read_document(path), origin=str(path))
    except (OSError, UnicodeDecodeError, DDRLError) as error:
        raise WeightsError(
            f"{run} has no recipe that can be read: {error}.",
            hint="give the folder of a run that `ddrl train` has written",
        ) from error


def _newest(run: Path, key: str) -> Checkpoint:
    """The newest checkpoint of a run.

    Raises:
        WeightsError: it is no run, or has no checkpoint.
    """
    checkpoint = CheckpointFolder(run / "checkpoints").latest()
    if checkpoint is None:
        raise WeightsError(
            f"{key} is {run}, which has no checkpoint.",
            hint="give the folder of a run that `ddrl train` has written",
        )
    return checkpoint
