"""The sections on what is trained, and on what data: model and data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ddrl.recipe.sections import MAX_SEED, Section

__all__ = ["DataSection", "LoRASection", "ModelSection", "PretrainSection"]


class PretrainSection(Section):
    """Plain flow matching that makes an embedded model a base model, before any reward."""

    steps: int = Field(3000, ge=0, description="Optimizer steps; 0 starts from random weights.")
    batch_size: int = Field(256, ge=1, description="Data samples per step.")
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's learning rate.")
    label_noise: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of captions replaced by random ones, so that there is something to "
        "learn afterwards.",
    )
    condition_dropout: float = Field(
        0.1, ge=0, lt=1, description="Share of samples trained without their caption."
    )
    ema: float = Field(
        0.999, ge=0, lt=1, description="Decay of the averaged weights that are kept; 0 = off."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Of the base model, not the run's seed.")


class LoRASection(Section):
    """A low-rank adapter instead of all weights (diffusers models)."""

    rank: int = Field(0, ge=0, description="Rank of the adapter; 0 = train all weights.")
    alpha: float = Field(0.0, ge=0, description="Scale times rank; 0 = twice the rank.")
    targets: str = Field(
        "",
        description="Ends of the names of the modules to adapt, with commas between; empty = the "
        "family's own.",
    )
    dora: bool = Field(False, description="Decompose weights into magnitude and direction.")


class ModelSection(Section):
    """Which model is trained."""

    family: Literal["tiny", "diffusers"] = Field(
        "tiny", description="`tiny`: the embedded model; `diffusers`: a pipeline, by `path`."
    )
    path: str = Field(
        "", description="Folder of a diffusers pipeline, or its id on the hub (`diffusers` only)."
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Type of frozen weights; what is trained is float32 (`diffusers` only).",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations again in the backward pass (`diffusers` only)."
    )
    network: Literal["mlp", "dit"] = Field("mlp", description="Network (`tiny` only).")
    width: int = Field(256, ge=1, description="Width of the hidden layers (`tiny` only).")
    depth: int = Field(4, ge=1, description="Number of blocks (`tiny` only).")
    patch: int = Field(2, ge=1, description="Side of a patch in pixels (`dit` only).")
    heads: int = Field(4, ge=1, description="Attention heads; they divide the width (`dit` only).")
    lora: LoRASection = Field(default_factory=LoRASection, description="The adapter.")
    pretrain: PretrainSection = Field(
        default_factory=PretrainSection, description="How the embedded base model is made."
    )


class DataSection(Section):
    """The data that anchors the policy, eq. (T4)."""

    source: Literal["digits", "files"] = Field(
        "digits",
        description="`digits`: the embedded data; `files`: captioned images or clips at `path`.",
    )
    path: str = Field(
        "",
        description="A folder of media with captions beside them, a .jsonl list, webdataset "
        "shards or parquet tables (`files` only).",
    )
    height: int = Field(512, ge=1, description="Height in pixels (`files` only).")
    width: int = Field(512, ge=1, description="Width in pixels (`files` only).")
    frames: int = Field(1, ge=1, description="Frames of a clip; 1 = images (`files` only).")
    fps: float = Field(0.0, ge=0, description="Frames per second; 0 = each clip's own.")
    heldout: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Share of the samples that nothing is trained on (`files` only).",
    )
    on_broken: Literal["skip", "stop"] = Field(
        "stop", description="What a broken file costs: itself, named in the log, or the run."
    )
    anchor: Literal["paired", "independent"] = Field(
        "paired",
        description="`paired`: data with the same prompt as the rollouts beside it; "
        "`independent`: any data, under its own prompt.",
    )
    condition_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of data samples whose condition is dropped, in the data term only; "
        "keeps the unconditional model alive for guidance.",
    )
    anchors_per_group: int = Field(
        0, ge=0, description="Data samples per prompt and step; 0 = as many as `group_size`."
    )
