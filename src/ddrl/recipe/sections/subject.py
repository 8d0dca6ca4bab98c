"""The sections on what is trained, and on what data: model and data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ddrl.recipe.sections.base import NamedClass, Section, Source
from ddrl.recipe.sections.run import MAX_SEED
from ddrl.recipe.sizes import as_sizes, read_sizes


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
    start: str = Field(
        "",
        description="An adapter to go on with: the folder of a run or an export, or a file with "
        "the keys of diffusers, kohya or ComfyUI. Rank, modules and strength are the adapter's; "
        "`alpha` sets how they are split into factors.",
    )

    @property
    def is_used(self) -> bool:
        """Whether an adapter is trained."""
        return bool(self.rank or self.start)


class ModelSection(Section):
    """Which model is trained."""

    family: Literal["tiny", "diffusers"] | NamedClass = Field(
        "tiny",
        description="`tiny`: the embedded model; `diffusers`: a pipeline of a family that ddrl "
        "knows, by `path`; `package.module:Class`: a pipeline behind an adapter of your own.",
    )
    path: str = Field(
        "",
        description="Folder of a diffusers pipeline, or its id on the hub, `id@revision` for other "
        "than its newest (`diffusers` only).",
    )
    variant: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_]*$",
        description="Which weights of a pipeline are read, by the word in their names: `fp16` for "
        "`model.fp16.safetensors`; empty = those without such a word, or the only variant of a "
        "folder (`diffusers` only).",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Type of frozen weights; what is trained is float32 (`diffusers` only).",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations again in the backward pass (`diffusers` only)."
    )
    offload: bool = Field(
        False,
        description="Keep text encoders, image encoders and the VAE on the CPU, and have them on "
        "the device only while they are used (`diffusers` only).",
    )
    compile: bool = Field(
        False,
        description="Compile the network's blocks with `torch.compile`, which takes minutes, for "
        "faster passes; needs a C++ compiler on the CPU.",
    )
    distilled: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="Whether the model is distilled for few steps; then training on data with "
        '`data.target = "data"` gets a warning. `auto` asks its configs and its name, which do not '
        "always tell (`diffusers` only).",
    )
    embedded_guidance: float = Field(
        0.0,
        ge=0,
        description="Guidance scale that the network itself is told (FLUX.1 [dev]); 0 = the "
        "pipeline's default. It costs nothing; that of two passes is `rollout.guidance` "
        "(`diffusers` only).",
    )
    start: str = Field(
        "",
        description="Folder of a run whose averaged weights are the base: stages in a row. Of a "
        "pipeline, `path` is the base of that run, and its adapter is merged.",
    )
    network: Literal["mlp", "dit"] = Field("mlp", description="Network (`tiny` only).")
    width: int = Field(256, ge=1, description="Width of the hidden layers (`tiny` only).")
    depth: int = Field(4, ge=1, description="Number of blocks (`tiny` only).")
    patch: int = Field(2, ge=1, description="Side of a patch in pixels (`dit` only).")
    patch_frames: int = Field(1, ge=1, description="Frames of a patch, in clips (`dit` only).")
    heads: int = Field(4, ge=1, description="Attention heads; they divide the width (`dit` only).")
    lora: LoRASection = Field(default_factory=LoRASection, description="The adapter.")
    pretrain: PretrainSection = Field(
        default_factory=PretrainSection, description="How the embedded base model is made."
    )

    @property
    def is_embedded(self) -> bool:
        """Whether it is the model that comes with ddrl, and no pipeline."""
        return self.family == "tiny"

    @property
    def own_family(self) -> str:
        """``package.module:Class`` of the user's own adapter; empty where there is none."""
        return self.family if ":" in self.family else ""


class SyntheticSection(Section):
    """Samples of the base model that stand for data."""

    per_prompt: int = Field(
        0,
        ge=0,
        description="Samples drawn per prompt; 0 = as many as keep each from coming up more than "
        "about 20 times in `run.steps`, for few that come often are learned by heart. Give a "
        "number to a run that is to be extended.",
    )
    keep: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of each prompt's samples that is kept, the best by the sum of the "
        "rewards; 1 = all. Held-out samples are never selected.",
    )
    sampler: Literal["sde", "ode"] = Field(
        "sde", description="`sde`: the rollout's kernel; `ode`: the evaluation's solver."
    )
    steps: int = Field(
        0, ge=0, description="Steps of the sampler; 0 = those of the rollout or the evaluation."
    )
    guidance: float = Field(
        0.0, ge=0, description="Classifier-free guidance scale; 1 = off; 0 = the rollout's."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Of the samples, not the run's seed.")


class DataSection(Section):
    """The data that anchors the policy, eq. (T4)."""

    source: Source | NamedClass = Field(
        "digits",
        description="`digits`, `moving_digits`, `words`: embedded images, clips of `frames` frames "
        "and pictures of words, of 32x96 pixels; `files`: captioned images or clips at `path`; "
        "`hub`: a set of the Hugging Face hub, streamed and never stored whole; `prompts`: texts "
        "alone, whose data are samples of the base model; `package.module:Class`: your own task.",
    )
    path: str = Field(
        "",
        description="A folder of media with captions beside them, a .jsonl or .csv list, "
        "webdataset shards or parquet tables (`files`); a text file with a prompt a line, or a "
        ".jsonl list (`prompts`); `owner/name` or `owner/name@revision`, or a folder that "
        "`datasets` loads (`hub`).",
    )
    config: str = Field(
        "", description="Subset of a set that has several, which is named by its page (`hub`)."
    )
    split: str = Field(
        "auto",
        min_length=1,
        description="Splits of the set that are used: names with `+` between them, or `all`; "
        "`auto`: `train` where the set has named splits, in folders or tables (`files`, `hub`).",
    )
    layout: Literal["auto", "folder", "jsonl", "shards", "parquet"] = Field(
        "auto",
        description="How `path` is laid out: media with captions beside them, lists (.jsonl, "
        ".csv), webdataset shards or tables; `auto` goes by what is there (`files`).",
    )
    caption_column: str = Field(
        "",
        description="Column of a table, key of a list, or key of the .json beside a medium that "
        "holds captions; empty = one of the usual names, such as `caption`, `text`, `prompt` "
        "(`files`, `hub`).",
    )
    media_column: str = Field(
        "",
        description="Column or key that holds media or paths to them, or in folders and shards the "
        "end of their names, such as `jpg`; empty = one of the usual names, such as `image`, "
        "`video`, `file_name` (`files`, `hub`).",
    )
    source_column: str = Field(
        "",
        description="Column or key of source images or paths to them, or in folders and shards the "
        "end of their names; empty = a usual one, as `source`, `before` (with `source_images`).",
    )
    height: int = Field(512, ge=1, description="Height in pixels (not `digits`, `words`).")
    width: int = Field(512, ge=1, description="Width in pixels (not `digits`, `words`).")
    sizes: Annotated[tuple[str, ...], BeforeValidator(as_sizes)] = Field(
        (),
        examples=['sizes such as ["640x384"]'],
        description="Several sizes in place of `height` and `width`, each width x height, or width "
        "x height x frames where `frames` is not that of all: a sample is scaled and cropped to "
        "the one of the nearest aspect ratio (`files`, `hub`).",
    )
    frames: int = Field(1, ge=1, description="Frames of a clip; 1 = images (not `digits`).")
    fps: float = Field(0.0, ge=0, description="Frames per second; 0 = each clip's own.")
    given_frames: int = Field(
        0,
        ge=0,
        description="First frames of each clip that the model is given; 1: image-to-video; 5: "
        "video-to-video (Cosmos). They are the clip's own, or, for 1, the image that a list names "
        "as its `first_frame` (`files`, `hub`, `moving_digits`).",
    )
    source_images: int = Field(
        0,
        ge=0,
        le=1,
        description="Source images that the model is given with each caption; 1: image editing. A "
        "sample is then a source image, an instruction as its caption, and the result as its "
        "medium (`files`, `hub`).",
    )
    heldout: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Share of the samples, or prompts, that nothing is trained on (not `digits`).",
    )
    outside: Literal["refuse", "allow"] = Field(
        "refuse",
        description="What becomes of a file that a link, `..` or an absolute path finds outside of "
        "the folder of `path`: `refuse`: it is broken; `allow`: it is read (`files`, `hub`).",
    )
    on_broken: Literal["skip", "stop"] = Field(
        "stop", description="What a broken file costs: itself, named in the log, or the run."
    )
    anchor: Literal["paired", "independent", "synthetic", "mixed"] = Field(
        "paired",
        description="`paired`: data with the same prompt as the rollouts beside it; "
        "`independent`: any data, under its own prompt; `synthetic`: samples of the base model "
        "for the same prompt; `mixed`: paired data and such samples.",
    )
    synthetic_share: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Share of a group's data samples that is synthetic, at least one and not all "
        "(`mixed` only).",
    )
    condition_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of data samples whose condition is dropped, in the data term only; "
        "keeps the unconditional model alive for guidance.",
    )
    target: Literal["data", "teacher"] = Field(
        "data",
        description="What the data term holds the policy to at noised data: the velocity of the "
        "`data`, or that of the frozen start, its `teacher`; few-step (distilled) models need "
        "`teacher`.",
    )
    anchors_per_group: int = Field(
        0, ge=0, description="Data samples per prompt and step; 0 = `rollout.group_size`."
    )
    synthetic: SyntheticSection = Field(
        default_factory=SyntheticSection, description="Samples of the base model as data."
    )

    @property
    def own_task(self) -> str:
        """``package.module:Class`` of the user's own task; empty where there is none."""
        return self.source if ":" in self.source else ""

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(height, width, frames) of every size, at least one, in the order of ``sizes``."""
        sizes = read_sizes(self.sizes, frames=self.frames)
        return sizes or ((self.height, self.width, self.frames),)

    @property
    def num_given(self) -> int:
        """Pictures that the model is given with each caption, of either kind."""
        return self.given_frames + self.source_images
