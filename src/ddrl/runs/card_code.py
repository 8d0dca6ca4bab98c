"""The lines of a model card that make a sample, as ``ddrl sample`` does."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ddrl.diffusion.process import RectifiedFlow
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.adapter.opened import NETWORK_FILE, OpenedModel
from ddrl.models.files.hub import split_revision
from ddrl.runs.card import base_name, hub_id, shared_path
from ddrl.runs.loaded import LoadedRun

PROMPT = "a photo of a lighthouse"
_SCHEDULERS = {
    "euler": "FlowMatchEulerDiscreteScheduler",
    "heun": "FlowMatchHeunDiscreteScheduler",
}
FPS = 16.0  # of clips, where the recipe leaves it to the data


def pipeline_code(run: LoadedRun, path: str, calls: Sequence[str]) -> list[str]:
    """Load the pipeline, and call it with the run's guidance, steps, shift and size.

    Args:
        run: of a diffusers model.
        path: of the pipeline: ``id@revision``, or a folder.
        calls: lines that load the adapter into ``pipeline``.
    """
    model = run.model
    assert isinstance(model, DiffusersModel)
    if isinstance(model, OpenedModel):
        return _own_lines(run, model, path)
    kind = model.caller().__name__
    is_flow = isinstance(model.process, RectifiedFlow)
    solver = run.recipe.evaluation.solver
    scheduler = _SCHEDULERS.get(solver, _SCHEDULERS["euler"]) if is_flow else "DDIMScheduler"
    where, revision = split_revision(path)
    source = json.dumps(where, ensure_ascii=False)
    source += f", revision={json.dumps(revision)}" if revision else ""
    parameters = model.call_parameters()
    given = {0: "", 1: "image"}.get(model.given_frames, "video")
    is_edit = bool(model.given_frames and model.takes_sources)
    given = given if given in parameters else ""
    lines = ["import torch", *(["from PIL import ImageOps"] if is_edit else [])]
    lines += [f"from diffusers import {', '.join(sorted((kind, scheduler)))}"]
    lines += [f"from diffusers.utils import load_{given}"] if given else []
    lines += [
        "",
        *_place(run, calls),
        f"pipeline = {kind}.from_pretrained({source}, dtype=torch.{run.recipe.model.dtype})",
        *_stage(run, calls),
        *calls,
        'pipeline.to("cuda" if torch.cuda.is_available() else "cpu")',
        *model.guidance_lines(run.forward.guidance),
    ]
    lines += _flow_sampler(run, scheduler) if is_flow else _table_sampler(scheduler)
    return [*lines, "", *_call(run, model, given)]


def _place(run: LoadedRun, calls: Sequence[str]) -> list[str]:
    """A word about the base of an adapter, where others can't know which it is."""
    if not calls or hub_id(run.recipe):
        return []
    return ["# The base lay in a folder of this name: put the path of yours here."]


def _own_lines(run: LoadedRun, model: OpenedModel, path: str) -> list[str]:
    """Open a model that is no pipeline: as it was saved, or the base with the network."""
    module, _, name = run.recipe.model.own_family.partition(":")
    dtype = f"dtype=torch.{run.recipe.model.dtype}"
    lines = ["import torch", f"from {module} import {name}"]
    if hasattr(model.inner, "save"):
        return [*lines, "", f"model = {name}.open({json.dumps(path)}, {dtype})"]
    return [
        *lines,
        "from safetensors.torch import load_model",
        "",
        f"model = {name}.open({json.dumps(base_name(run.recipe))}, {dtype})",
        f"load_model(model.transformer, {json.dumps(f'{path}/{NETWORK_FILE}')})",
    ]


def _stage(run: LoadedRun, calls: Sequence[str]) -> list[str]:
    """A word about an adapter whose base is not the pipeline itself but an earlier stage."""
    start = run.recipe.model.start
    if not (start and calls):
        return []
    name = shared_path(start)
    return [
        f"# The base of this adapter is the pipeline as the run {name} left it:",
        f"# load the folder that `ddrl export {name} --merged` writes instead.",
    ]


def _flow_sampler(run: LoadedRun, scheduler: str) -> list[str]:
    """A scheduler that takes the steps of the run's evaluation."""
    section = run.recipe.evaluation
    steps, shift = section.steps, run.model.time_shift(run.latent_shape, section.steps)
    lines = ["", "", f"class Sampler({scheduler}):"]
    lines += [
        "    def set_timesteps(",
        "        self, num_inference_steps=None, device=None, sigmas=None, mu=None, timesteps=None",
        "    ):",
    ]
    if "Heun" in scheduler:
        lines += [
            f"        self.sigma_max, self.sigma_min = 1.0, 1 / {steps}",
            f"        super().set_timesteps({steps}, device)",
        ]
    else:
        lines += [
            f"        sigmas = [1 - i / {steps} for i in range({steps})]",
            "        super().set_timesteps(sigmas=sigmas, device=device)",
        ]
    if section.solver not in _SCHEDULERS:
        lines.append(f"        # `ddrl sample` takes {section.solver} steps, which end close by.")
    return [*lines, "", "", f"pipeline.scheduler = Sampler(shift={shift!r})", *_shifts(run)]


def _shifts(run: LoadedRun) -> list[str]:
    """The shift of the other sizes of a run, where it is another one."""
    steps, names = run.recipe.evaluation.steps, run.recipe.data.sizes
    if len(names) < 2:
        return []
    shifts = [run.model.time_shift(shape, steps) for shape in run.latent_shapes]
    others = [(n, s) for n, s in zip(names, shifts, strict=True) if s != shifts[0]]
    return [f"# At {name} pixels: Sampler(shift={shift!r})" for name, shift in others]


def _table_sampler(scheduler: str) -> list[str]:
    return [
        "# `ddrl sample` solves the ODE between the levels, which ends close by.",
        f"pipeline.scheduler = {scheduler}.from_config(",
        '    pipeline.scheduler.config, timestep_spacing="trailing"',
        ")",
    ]


def _call(run: LoadedRun, model: DiffusersModel, given: str) -> list[str]:
    """The call; ``given`` is the argument that takes the first frames, if it takes any."""
    data, parameters = run.recipe.data, model.call_parameters()
    height, width, frames = data.shapes[0]
    arguments: dict[str, object] = {
        "num_inference_steps": run.recipe.evaluation.steps,
        "height": height,
        "width": width,
        **({"num_frames": frames} if model.is_video() else {}),
        **model.size_arguments(height, width),
        **model.guidance_arguments(run.forward.guidance),
        "output_type": "pil",
    }
    lines = [f"# Trained at {', '.join(data.sizes)} pixels."] if data.sizes[1:] else []
    lines += ["result = pipeline(", f"    prompt={json.dumps(PROMPT)},"]
    if given:
        lines.append(f"    {given}={_load(given, width, height, model)},")
    lines += [f"    {name}={value!r}," for name, value in arguments.items() if name in parameters]
    lines += ["    generator=torch.Generator().manual_seed(0),", ")"]
    if not model.is_video():
        return [*lines, 'result.images[0].save("sample.png")']
    every = round(1000 / (data.fps or FPS))
    return [
        *lines,
        "first, *rest = result.frames[0]",
        f'first.save("sample.webp", save_all=True, append_images=rest, duration={every})',
    ]


def _load(given: str, width: int, height: int, model: DiffusersModel) -> str:
    """What loads the pictures that are given; a source is scaled and cropped as the data are."""
    if model.takes_sources:
        return f'ImageOps.fit(load_image("source.png"), ({width}, {height}))'
    return f'load_{given}("{"first_frame.png" if given == "image" else "first_frames.mp4"}")'
