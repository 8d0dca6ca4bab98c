"""The sections on the data that a model is held to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ddrl.recipe.sections.base import NamedClass, Section, Source
from ddrl.recipe.sections.run import MAX_SEED
from ddrl.recipe.sizes import as_sizes, read_sizes


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
