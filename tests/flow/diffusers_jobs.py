"""A tiny pipeline and a folder of captioned media as a user has them, and a recipe for both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import load_file
from tests.cli.command import Result, ddrl
from torch import Tensor

RECIPE = """\
[model]
family = "diffusers"
path = "{model}"
lora.rank = 4

[data]
source = "files"
path = "{data}"
height = {side}
width = {side}
frames = {frames}
heldout = 0.4

[[reward]]
name = "ink"

[rollout]
prompts_per_step = 2
group_size = 4
steps = 3

[evaluation]
every = 2
prompts = 2
samples_per_prompt = 2
steps = 2

[run]
steps = 2
checkpoint_every = 2
tensorboard = false
device = "cpu"
folder = "{folder}/run"
cache = "{cache}"
"""


@dataclass(frozen=True)
class Job:
    """What all runs of a module share: model, data and cache."""

    root: Path
    side: int
    frames: int

    @classmethod
    def make(
        cls,
        root: Path,
        pipeline: Any,
        write: Callable[[Path, int], object],
        *,
        side: int,
        frames: int = 1,
    ) -> Job:
        """Save the pipeline and 8 media under 6 captions, made by ``write(stem, index)``."""
        pipeline.save_pretrained(root / "model")
        for index in range(8):
            stem = root / "data" / f"{index:02d}"
            write(stem, index)
            stem.with_suffix(".txt").write_text(f"a thing of kind {index % 6}")
        return cls(root, side, frames)

    def recipe(self, folder: Path) -> Path:
        """Write the recipe of a run in ``folder / "run"``."""
        folder.mkdir(exist_ok=True)
        path = folder / "recipe.toml"
        values = {"model": self.root / "model", "data": self.root / "data"}
        text = RECIPE.format(
            **values, side=self.side, frames=self.frames, folder=folder, cache=self.root / "cache"
        )
        path.write_text(text)
        return path

    def train(self, folder: Path, *overrides: str | Path) -> Result:
        """Train to the end."""
        result = ddrl("train", self.recipe(folder), *overrides)
        assert result.code == 0, result.stderr
        return result


def weights(run: Path, step: int) -> dict[str, Tensor]:
    """The trained weights of a checkpoint."""
    return load_file(run / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


def image_size(path: Path) -> tuple[int, int]:
    """Width and height."""
    with Image.open(path) as image:
        return image.size
