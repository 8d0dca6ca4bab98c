"""The sections on what is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ddrl.recipe.sections.base import NamedClass, Section
from ddrl.recipe.sections.run import MAX_SEED


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
    attention: Literal["auto", "flash", "cudnn", "efficient", "math"] = Field(
        "auto",
        description="Kernel of PyTorch's attention that is tried first, in this process: `auto` = "
        "PyTorch's own order. `flash` and `cudnn` need bfloat16 and a GPU; `flash` takes no mask; "
        "`math` is the plain formula, which takes most memory.",
    )
    vae_dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Type of the autoencoder's weights; `auto` = `dtype`, or float32 where the "
        "family needs it, such as Wan (`diffusers` only).",
    )
    vae_slicing: bool = Field(
        False,
        description="Decode sample by sample, which takes as much memory as one sample and changes "
        "at most last bits (`diffusers` only).",
    )
    vae_tiling: bool = Field(
        False,
        description="Encode and decode large pictures in tiles that overlap: less memory, and "
        "latents and pixels that differ a little (`diffusers` only).",
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
