"""A pipeline before it is loaded: what its folder holds, and what it would be."""

from __future__ import annotations

import logging
from typing import Any

import torch

from ddrl.builders.pretrained import adapt, family_of, refuse_quantized, warn_of_distilled
from ddrl.diffusion.process import RectifiedFlow
from ddrl.errors import DDRLError, WeightsError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.adapter.opened import OpenedModel
from ddrl.models.adapter.own_family import Family, family_class
from ddrl.models.files.base_files import BaseFiles
from ddrl.models.files.configs import PipelineConfigs, building, part_class
from ddrl.models.files.hub import ask_hub, local_folder
from ddrl.models.files.weights_match import check_weights
from ddrl.recipe.recipe import Recipe

logger = logging.getLogger(__name__)


def open_sketch(recipe: Recipe) -> DiffusersModel:
    """The model of a recipe without its weights, once all that can be seen of them fits.

    Raises:
        WeightsError: it can't be loaded, or can't be trained as the recipe says.
        DDRLError: of the kind that fits, for what else the recipe asks of it and can't be had.
    """
    from ddrl.models.pretrained import look_into
    from ddrl.models.sketch import OTHER_VERSION  # takes seconds

    section, family = recipe.model, family_of(recipe)
    with building(f"{section.path} can't be planned", hint=OTHER_VERSION):
        _, files = look_into(section.path, variant=section.variant, family=family)
        files.check()
        refuse_quantized(recipe, files)
        model = _sketched(files, dtype=getattr(torch, section.dtype), family=family)
        _tell(files)
        adapt(recipe, model)
        warn_of_distilled(recipe, model)
        _warn_of_scheduler(section.path, model)
    return model


def _sketched(
    files: BaseFiles, *, dtype: torch.dtype = torch.float32, family: Family | None = None
) -> DiffusersModel:
    """The model without its weights, which are seen to fit it.

    Raises:
        WeightsError: they don't, or a tokenizer can't be read.
    """
    from ddrl.models.sketch import sketch_model

    _read_tokenizers(files)
    model = sketch_model(files.path, dtype=dtype, family=family)
    check_weights(files, model.pipeline)
    return model


def _read_tokenizers(files: BaseFiles) -> None:
    """Read what has no weights and no tensors to compare: tokenizers and processors.

    Raises:
        WeightsError: one can't be read.
    """
    folder = local_folder(files.path)
    if not files.is_here or folder is None or not files.parts:
        return
    index = PipelineConfigs.find(files.path).index
    for part in files.parts:
        if not part.kind or part.files or part.kind.endswith("Scheduler"):
            continue
        what = f"The {part.name} of {files.path} can't be loaded"
        hint = f"download it again: the whole folder {part.name}"
        with building(what, hint=hint):
            kind: Any = part_class(str(index[part.name][0]), part.kind, files.path)
            names = sorted(set(getattr(kind, "vocab_files_names", {}).values()))
            if names and not any((folder / part.name / name).exists() for name in names):
                # Some tokenizers are then made without a vocabulary, and say nothing.
                raise WeightsError(f"{what}. None of {', '.join(names)} is there.", hint=hint)
            if hasattr(kind, "from_pretrained"):
                kind.from_pretrained(folder / part.name)


def _tell(files: BaseFiles) -> None:
    if files.variant:
        logger.info("weights of the variant %s", files.variant)
    without = [part.name for part in files.parts if not part.kind and "encoder" in part.name]
    if "text_encoder_3" in without:
        logger.warning(
            "%s is without its text_encoder_3, as SD3 may be: texts are encoded by the others",
            files.path,
        )


_SWITCHES = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
_FLOW_SWITCHES = ("shift_terminal", "stochastic_sampling", "invert_sigmas")


def _warn_of_scheduler(path: str, model: DiffusersModel) -> None:
    """Warn once of what the pipeline's own scheduler would do, and ddrl's sampler does not."""
    if isinstance(model, OpenedModel):
        return
    scheduler = model.pipeline.scheduler
    config, kind = dict(scheduler.config), type(scheduler).__name__
    is_flow = isinstance(model.process, RectifiedFlow)
    names = (*_SWITCHES, *_FLOW_SWITCHES) if is_flow else _SWITCHES
    followed = getattr(model, "follows", ())
    ignored = [f"{n} = {config[n]}" for n in names if config.get(n) and n not in followed]
    is_of_flows = (
        "Flow" in kind
        or bool(config.get("use_flow_sigmas"))
        or config.get("prediction_type") in ("flow_prediction", "trigflow")
        or bool(model.distilled())
    )
    if is_flow and not is_of_flows:
        ignored.append(f"a {kind}, which is no scheduler of flows")
    if ignored:
        logger.warning(
            "ddrl takes the steps itself, at times of its own. Of the scheduler of %s this is not "
            "followed: %s",
            path,
            "; ".join(ignored),
        )


def is_downloaded_later(recipe: Recipe) -> bool:
    """Whether the base is on the hub, and nothing of it is on this machine."""
    section = recipe.model
    return not section.is_embedded and local_folder(section.path) is None


def require_base(recipe: Recipe) -> None:
    """See that a base that is not here can be fetched.

    Raises:
        WeightsError: the hub has none, or can't be reached.
    """
    if is_downloaded_later(recipe):
        ask_hub(recipe.model.path)


def inspect_base(
    path: str, *, variant: str = "", family: str = ""
) -> tuple[BaseFiles, DDRLError | None]:
    """Look at a pipeline, and say what is wrong with it.

    Args:
        path: a folder, a hub id, or ``id@revision``.
        variant: of the weights; empty: the plain ones, or the only variant there.
        family: ``package.module:Class`` of an adapter; empty: that of ddrl for the pipeline.

    Returns:
        Its parts, and the first fault: of a part, or of all of them together.

    Raises:
        DDRLError: it is no pipeline, or the adapter can't be had.
    """
    from ddrl.models.pretrained import look_into
    from ddrl.models.sketch import OTHER_VERSION

    adapter = family_class(family) if family else None
    with building(f"{path} can't be planned", hint=OTHER_VERSION):
        _, files = look_into(path, variant=variant, family=adapter)
    try:
        files.check()
        with building(f"{path} can't be planned", hint=OTHER_VERSION):
            _sketched(files, family=adapter)
    except DDRLError as error:
        return files, error
    return files, None
