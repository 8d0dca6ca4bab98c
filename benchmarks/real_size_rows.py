"""The rows of real_size.py: which networks, what is trained of them, and by which method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.random_weights import make_recipe, write_small_sd3, write_small_wan

from ddrl.recipe import Recipe

METHODS = {
    "ddrl": ("DDRL", ()),
    "none": ("no regularizer", ("objective.regularizer=none",)),
    "reference": ("reverse KL", ("objective.regularizer=reference",)),
    "sft": ("SFT", ("objective.policy=none", "objective.step_weight=velocity")),
}


@dataclass(frozen=True)
class Model:
    """A network and media of one size.

    Attributes:
        name: of the row.
        path: a release, or a folder of configs.
        size: height, width, frames.
        overrides: of the recipe.
    """

    name: str
    path: str
    size: tuple[int, int, int]
    overrides: tuple[str, ...]


CLIP = ("rollout.prompts_per_step=1", "rollout.group_size=2", "run.micro_batch=1")
WAN = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
KEPT = (*CLIP, "model.gradient_checkpointing=true")
REAL = {
    "sd3": Model(
        "SD3.5-Medium 512",
        "stabilityai/stable-diffusion-3.5-medium",
        (512, 512, 1),
        ("rollout.prompts_per_step=2", "rollout.group_size=8", "run.micro_batch=8"),
    ),
    "wan33": Model("Wan2.1-1.3B 480p 33 frames", WAN, (480, 832, 33), KEPT),
    "wan81": Model("Wan2.1-1.3B 480p 81 frames", WAN, (480, 832, 81), KEPT),
}


def tiny(folder: Path) -> dict[str, Model]:
    """Small networks of the same families."""
    write_small_sd3(folder / "sd3", width=64, layers=2)
    write_small_wan(folder / "wan", layers=2)
    few = ("rollout.prompts_per_step=1", "rollout.group_size=2")
    clip = Model("tiny Wan 32 x 32, 5 frames", str(folder / "wan"), (32, 32, 5), few)
    return {"sd3": Model("tiny SD3 64", str(folder / "sd3"), (64, 64, 1), few), "wan33": clip}


@dataclass(frozen=True)
class Setting:
    """One row: what is trained, and how."""

    model: Model
    what: str
    method: str
    is_compiled: bool
    more: tuple[str, ...] = ()

    def recipe(self) -> Recipe:
        """The recipe of the row."""
        lora = "model.lora.rank=32" if self.what == "LoRA" else "model.dtype=float32"
        more = [*self.model.overrides, lora, f"model.compile={str(self.is_compiled).lower()}"]
        more += [*METHODS[self.method][1], *self.more]
        return make_recipe(self.model.path, self.model.size, more)

    def label(self) -> str:
        """The row in words."""
        how = ", compiled" if self.is_compiled else ""
        return f"{self.model.name}, {self.what}, {METHODS[self.method][0]}{how}"


def settings(
    models: Sequence[Model], methods: Sequence[str], *, compiled: bool, more: tuple[str, ...]
) -> Iterator[Setting]:
    """All rows, the most wanted first; all weights only by what needs no second network."""
    for model in models:
        for method in methods:
            yield Setting(model, "LoRA", method, False, more)
            if compiled and method in ("ddrl", "sft"):
                yield Setting(model, "LoRA", method, True, more)
        for method in methods:
            if method in ("ddrl", "sft"):
                yield Setting(model, "all weights", method, False, more)
