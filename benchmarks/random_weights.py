"""Jobs at a model's real size without its weights: random ones, on random latents and texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import torch
from torch import Tensor, nn

from ddrl.builders import pretrained
from ddrl.builders.data.corpus import Corpus, Part
from ddrl.builders.device import pick_device
from ddrl.builders.tasks.files import Files
from ddrl.jobs.train.trainer import build_job
from ddrl.models.adapter.blank import blank_condition
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.files.base_files import BaseFiles
from ddrl.models.sketch import sketch_model
from ddrl.recipe import Recipe, parse_recipe
from ddrl.training.trainer import Trainer

RELEASES = Path(__file__).parents[1] / "src/ddrl/models/releases"
RECIPE = """
[model]
family = "diffusers"
path = "{path}"
dtype = "bfloat16"
[data]
source = "files"
path = "{data}"
height = {height}
width = {width}
frames = {frames}
[[reward]]
name = "ink"
[rollout]
steps = 3
[evaluation]
every = 0
[guard]
max_latent_std = 0
min_latent_std = 0
max_grad_norm = 0
max_ratio = 0
replay_tolerance = 0
[run]
precision = "bfloat16"
"""


def make_recipe(path: str, size: tuple[int, int, int], overrides: Sequence[str]) -> Recipe:
    """A recipe for a model by id or folder, and media of (height, width, frames)."""
    here = Path(__file__).parent
    height, width, frames = size
    text = RECIPE.format(path=path, data=here, height=height, width=width, frames=frames)
    return parse_recipe(text, overrides=list(overrides))


def trainer_of(recipe: Recipe) -> Trainer:
    """The trainer that ``ddrl train`` would run, with random weights, latents and texts."""
    with _random(recipe):
        return build_job(recipe).trainer


@contextmanager
def _random(recipe: Recipe) -> Iterator[None]:
    device = pick_device(recipe)
    data, rollout = recipe.data, recipe.rollout
    size = (data.height, data.width, data.frames)

    def load(path: str, *, dtype: torch.dtype, **_: str) -> DiffusersModel:
        model = sketch_model(path, dtype=dtype)
        for name, part in model.pipeline.components.items():
            if isinstance(part, nn.Module) and part not in (model.vae, model.transformer):
                setattr(model.pipeline, name, None)
        for part in (model.transformer, model.vae):
            _fill(part.to_empty(device=device))
        shape = model.latent_shape(*size)

        def encode(texts: Sequence[str]) -> Any:  # noqa: ANN401 - the family's condition
            made = blank_condition(model, len(texts), shape)
            assert made is not None
            return made.to(device)

        model.encode = encode  # type: ignore[method-assign, assignment]
        return model

    def corpus(_: Files, model: Any, *__: object, **___: object) -> Corpus:  # noqa: ANN401
        captions = tuple(f"a thing of kind {i}" for i in range(rollout.prompts_per_step))
        anchors = data.anchors_per_group or rollout.group_size
        x0 = torch.randn(len(captions) * anchors, *model.latent_shape(*size))
        rows = torch.arange(len(captions)).repeat_interleave(anchors)
        part = Part(captions, model.encode(captions).to("cpu"), rows, x0)
        real: Any = None  # nothing is evaluated
        return Corpus(part, part, real, (size,))

    with patch.object(pretrained, "load_model", load), patch.object(Files, "corpus", corpus):
        yield


@contextmanager
def without_text_encoders() -> Iterator[None]:
    """Bases as :func:`write_configs` makes them are taken, though their texts can't be encoded."""
    with patch.object(BaseFiles, "check", lambda _: None):
        yield


def _fill(network: nn.Module) -> None:
    """Small random weights, so that nothing grows out of its range."""
    tensors: list[Tensor] = [*network.parameters(), *network.buffers()]
    with torch.no_grad():
        for tensor in tensors:
            if tensor.is_floating_point():
                tensor.normal_(std=0.02)
            else:
                tensor.zero_()


def write_configs(
    folder: Path, release: str, *, transformer: Mapping[str, object], vae: Mapping[str, object]
) -> None:
    """Write a release's configs with other values, random weights, and no text encoders."""
    values = json.loads((RELEASES / f"{release}.json").read_text())
    index = {
        name: [None, None] if name.startswith(("text_", "tokenizer")) else value
        for name, value in values["model_index"].items()
    }
    parts = {
        "model_index.json": index,
        "transformer/config.json": values["transformer"] | transformer,
        "vae/config.json": values["vae"] | vae,
        "scheduler/scheduler_config.json": values["scheduler"],
    }
    for name, value in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    for name in ("transformer", "vae"):  # a base without weights is refused
        config = json.loads((folder / name / "config.json").read_text())
        network = getattr(diffusers, config["_class_name"]).from_config(config)
        network.save_pretrained(folder / name)


def write_small_sd3(folder: Path, *, width: int, layers: int) -> None:
    """Write the configs of a SD3 of some width, a multiple of 64."""
    network = {
        "num_attention_heads": width // 64,
        "caption_projection_dim": width,
        "joint_attention_dim": 512,
        "num_layers": layers,
        "dual_attention_layers": [],
        "pos_embed_max_size": 32,
    }
    small = {"block_out_channels": [32, 32, 64, 64]}
    write_configs(folder, "stable-diffusion-3.5-medium", transformer=network, vae=small)


def write_small_wan(folder: Path, *, layers: int) -> None:
    """Write the configs of a Wan of width 96."""
    network = {
        "num_attention_heads": 4,
        "attention_head_dim": 24,
        "ffn_dim": 128,
        "text_dim": 64,
        "num_layers": layers,
    }
    small = {"base_dim": 8}
    write_configs(folder, "Wan2.1-T2V-1.3B-Diffusers", transformer=network, vae=small)
