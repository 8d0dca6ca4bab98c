"""Loads a diffusers pipeline from a folder or a hub id, behind the adapter of its family."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ddrl.errors import UsageError, WeightsError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.adapter.own_family import (
    Family,
    files_of_own,
    open_own,
    opens_itself,
)
from ddrl.models.families.registry import adapter_of, import_diffusers
from ddrl.models.files.base_files import BaseFiles, read_base
from ddrl.models.files.configs import NOT_LOADED, PipelineConfigs, building
from ddrl.models.files.hub import hub_problem, is_offline, local_folder, split_revision
from ddrl.models.files.weights_match import check_weights
from ddrl.models.sketch import sketch_model


class _NotLoaded:
    """Stands where a part would: the pipeline can be loaded and saved, and not be called."""


def load_model(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    variant: str = "",
    family: Family | None = None,
) -> DiffusersModel:
    """Load a pipeline and wrap it.

    Args:
        path: a folder written by ``save_pretrained``, a hub id, or ``id@revision``.
        dtype: dtype of all weights.
        variant: variant of the weights, see :func:`~ddrl.models.files.base_files.read_base`.
        family: adapter of the pipeline; None: ddrl's own for the pipeline's class.

    Raises:
        UsageError: diffusers or a package of the pipeline is not installed, or ``family`` is for
            other pipelines.
        WeightsError: it is not a pipeline of a family that ddrl knows, the hub does not give it,
            or files are missing, cut, or of another network than the configs.
    """
    if opens_itself(family):
        return open_own(family, path, dtype=dtype)
    pipelines = import_diffusers().DiffusionPipeline
    adapter, files = look_into(path, variant=variant, family=family)
    for package in getattr(adapter, "packages", ()):
        if importlib.util.find_spec(package) is None:
            message = f"{files.class_name} needs {package}."
            raise UsageError(message, hint=f"pip install {package}")
    files.check()
    if files.is_here:
        check_weights(files, sketch_model(path, family=family).pipeline)
    configs = PipelineConfigs.find(path)
    left_out: dict[str, Any] = dict.fromkeys(configs.left_out())
    left_out |= {part: _NotLoaded() for part in NOT_LOADED.get(files.class_name, ())}
    where, revision = str(path), None
    if not Path(path).exists():
        where, revision = split_revision(str(path))
        if is_offline() and (folder := local_folder(path)) is not None:
            where, revision = str(folder), None
    hint = "see what `ddrl doctor --model PATH` finds in it, or download it again"
    # Some constructors draw what is then overwritten.
    with building(f"{path} can't be loaded", hint=hint), torch.random.fork_rng(devices=[]):
        try:
            pipeline = pipelines.from_pretrained(
                where,
                revision=revision,
                variant=files.variant or None,
                dtype=dtype,
                trust_remote_code=False,
                **left_out,
            )
        except Exception as error:
            known = None if Path(path).exists() else hub_problem(error, str(path))
            raise known or error from error
        return adapter(pipeline)


def look_into(
    path: str | Path, *, variant: str = "", family: Family | None = None
) -> tuple[Callable[[Any], DiffusersModel], BaseFiles]:
    """Find the adapter and the files of a pipeline; no weight is read.

    Raises:
        UsageError: diffusers is not installed.
        WeightsError: it is no pipeline that ddrl knows, or its folder holds no regular files.
    """
    if family is not None and opens_itself(family):
        return family, files_of_own(family, path)
    import_diffusers()  # what is not installed is no fault of the folder
    with building(f"{path} can't be read", hint="download it again: the whole folder"):
        adapter = adapter_of(PipelineConfigs.find(path).class_name, path, family)
        refuse_pipes(path)
        return adapter, read_base(path, variant=variant)


def refuse_pipes(path: str | Path) -> None:
    """See that diffusers will wait for no pipe in a model's folder.

    Raises:
        WeightsError: there is one, or a device.
    """
    for found in Path(path).rglob("*"):
        if found.exists() and not found.is_dir() and not found.is_file():
            raise WeightsError(
                f"{found} is a pipe, socket or device, no regular file.",
                hint="download the model again, into an empty folder",
            )
