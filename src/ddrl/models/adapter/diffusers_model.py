"""The common part of all diffusers families: dtype, text, VAE, time shift, trainable set."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ddrl.diffusion.process import Process, RectifiedFlow
from ddrl.errors import DataError, UsageError
from ddrl.models.adapter.calling import Calling
from ddrl.models.adapter.channels import check_channels
from ddrl.models.adapter.few_step import FewStep
from ddrl.models.adapter.given_frames import GivenFrames
from ddrl.models.adapter.offloading import Offloading
from ddrl.models.adapter.packing import from_vae, nearest_multiple, to_vae
from ddrl.models.lora.names import LoRANames
from ddrl.records import Condition


class DiffusersModel(GivenFrames, Offloading, FewStep, Calling, ABC):
    """A diffusers pipeline behind the protocol :class:`~ddrl.models.base.DiffusionModel`.

    A family's file says how its text is encoded, how its network is called, and where it departs
    from what stands here. The pipeline is used for its components and its ``encode_prompt``; its
    scheduler is never stepped, since ddrl takes the steps itself.

    Args:
        pipeline: loaded, on any device.
    """

    pipelines: ClassVar[tuple[str, ...]]
    """Names of the pipeline classes that the family covers."""
    lora_targets: ClassVar[tuple[str, ...]]
    """Modules that LoRA adapts by default, by the end of their names."""
    lora_names: ClassVar[LoRANames] = LoRANames()  # what other tools call the modules
    dead_ends: ClassVar[tuple[str, ...]] = ()
    """Parts of the last of ``transformer_blocks`` whose output goes nowhere."""
    embedded_guidance: float | None = None
    """The guidance scale that the network is told; None where it is told none. May be set."""

    def __init__(self, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is untyped
        self.pipeline = pipeline
        self._process: Process = RectifiedFlow()
        for part in self.frozen_parts():
            part.requires_grad_(False)
            part.eval()
        for name, parameter in self.transformer.named_parameters():
            if not self.is_used(name):
                parameter.requires_grad_(False)
        check_channels(self)
        self.transformer.eval()  # no dropout: the update has to see what the rollout saw

    @property
    def process(self) -> Process:
        """Rectified flow, unless the family says otherwise."""
        return self._process

    @property
    def transformer(self) -> nn.Module:
        """The network that is trained."""
        network: nn.Module = self.pipeline.transformer
        return network

    @property
    def vae(self) -> Any:  # noqa: ANN401
        """The autoencoder."""
        return self.pipeline.vae

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.transformer.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the network's inputs: that of its weights that are not quantised."""
        return next(p.dtype for p in self.transformer.parameters() if p.is_floating_point())

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent, along height and width."""
        names = ("vae_scale_factor_spatial", "vae_scale_factor")
        return int(next(getattr(self.pipeline, n) for n in names if hasattr(self.pipeline, n)))

    @property
    def temporal_factor(self) -> int:
        """Frames per latent frame after the first; 1 for images."""
        return int(getattr(self.pipeline, "vae_scale_factor_temporal", 1))

    def frozen_parts(self) -> list[nn.Module]:
        """Every network of the pipeline but the trained one."""
        parts = self.pipeline.components.values()
        return [p for p in parts if isinstance(p, nn.Module) and p is not self.transformer]

    def is_used(self, name: str) -> bool:
        """Return whether the velocity depends on the module or parameter of this name."""
        blocks = getattr(self.transformer, "transformer_blocks", ())
        last = f"transformer_blocks.{len(blocks) - 1}."
        return not name.startswith(tuple(last + part for part in self.dead_ends))

    def train_all(self) -> None:
        """Make all weights trainable that the velocity depends on, and all float32."""
        for name, parameter in self.transformer.float().named_parameters():
            parameter.requires_grad_(self.is_used(name))

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass: less memory, a third more time.

        Raises:
            UsageError: the network can't.
        """
        try:
            self.transformer.enable_gradient_checkpointing()  # type: ignore[operator]
        except (AttributeError, ValueError) as error:
            raise UsageError(
                f"{type(self.transformer).__name__} has no gradient checkpointing.",
                hint="set model.gradient_checkpointing = false",
            ) from error
        # diffusers checkpoints only in training mode; dropout stays off, part by part.
        self.transformer.train()
        for module in self.transformer.modules():
            if isinstance(module, nn.Dropout):
                module.eval()

    @torch.no_grad()
    def encode(
        self, texts: Sequence[str], *, first_frames: Tensor | None = None, frames: int = 81
    ) -> Condition:
        """Encode texts, and the frames that are given, without gradient.

        Args:
            texts: U texts.
            first_frames: pixels in [0, 1], shape (U, given_frames, 3, H, W). Where frames are
                given, the result without them stands for the empty text in guidance only.
            frames: see :meth:`encode_given`.

        Raises:
            DataError: as :meth:`encode_given`; or there are not frames for each text.
        """
        if first_frames is not None:
            self._check_first_frames(first_frames, len(texts))
        self.bring("text")
        condition = self._encode(list(texts))
        if first_frames is None:
            return condition
        given = self.encode_given(first_frames, frames=frames, texts=texts)
        return dataclasses.replace(condition, **given)

    @torch.no_grad()
    def encode_given(
        self, first_frames: Tensor, *, frames: int = 81, texts: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Encode given frames to fields of the family's condition.

        Args:
            first_frames: pixels in [0, 1], shape (U, given_frames, 3, H, W).
            frames: frames of the longest clip that they are for, including these.
            texts: U texts, used where the family ``reads_given_with_texts``.

        Raises:
            DataError: the model takes none, or another number, or can't make this size.
        """
        self._check_first_frames(first_frames, len(first_frames))
        num, _, height, width = first_frames.shape[1:]
        DiffusersModel.latent_shape(self, height, width, num)
        if self.reads_given_with_texts:
            self.bring("pair")
            return self._encode_pairs(first_frames, texts)
        self.bring("given")
        return self._encode_given(first_frames, frames)

    @abstractmethod
    def _encode(self, texts: list[str]) -> Condition:
        """Encode texts into the family's condition, one row each."""

    @abstractmethod
    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``."""

    @torch.no_grad()
    def encode_media(self, media: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) or (B, T, 3, H, W) in [0, 1] to latents, float32.

        To a model of videos, an image is a video of one frame.
        The mode of the VAE's posterior is taken, so that encoding is a function.
        """
        self.bring("media")
        layout = to_vae(media, is_video=self.is_video())
        pixels = (2 * layout - 1).to(self.vae.device, self.vae.dtype)
        posterior = self.vae.encode(pixels)
        if hasattr(posterior, "latent_dist"):
            latents = posterior.latent_dist.mode()
        else:  # without a posterior: AutoencoderTiny (TAESD) and AutoencoderDC
            latents = posterior.latents if hasattr(posterior, "latents") else posterior.latent
        return self.normalize(latents.float())

    @torch.no_grad()
    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:  # noqa: ARG002
        """Latents to pixels in [0, 1], float32: (B, T, 3, H, W), or (B, 3, H, W) of one frame."""
        self.bring("media")
        raw = self.denormalize(latents.float()).to(self.vae.device, self.vae.dtype)
        pixels = from_vae(self.vae.decode(raw, return_dict=False)[0].float())
        return (pixels / 2 + 0.5).clamp(0, 1)

    def normalize(self, latents: Tensor) -> Tensor:
        """The VAE's latents to those that the network sees: (z - shift) scale."""
        config = self.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        return (latents - shift) * float(config.scaling_factor)

    def denormalize(self, latents: Tensor) -> Tensor:
        """The inverse of :meth:`normalize`."""
        config = self.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        return latents / float(config.scaling_factor) + shift

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        """(C, H, W) for images, (C, T, H, W) for videos.

        Raises:
            DataError: the family can't make media of this size.
        """
        multiple, name, asked = self.size_multiple(), type(self).__name__, f"{height}x{width}"
        if height % multiple or width % multiple:
            raise DataError(
                f"{name} makes media whose sides are multiples of {multiple}, not {asked}.",
                hint=f"the nearest is {nearest_multiple(height, multiple)}x"
                f"{nearest_multiple(width, multiple)}",
            )
        largest = self.largest_side()
        if largest is not None and max(height, width) > largest:
            raise DataError(
                f"{name} makes media of at most {largest}x{largest}, not {asked}.",
                hint=f"set data.height and data.width to at most {largest}",
            )
        factor = self.temporal_factor
        if factor == 1 and frames != 1:
            said = f"{name} makes images, not clips of {frames} frames."
            raise DataError(said, hint="set data.frames = 1")
        if (frames - 1) % factor:
            raise DataError(
                f"{name} makes 1 + a multiple of {factor} frames, not {frames}.",
                hint=f"the nearest is {1 + factor * max(0, round((frames - 1) / factor))}",
            )
        size = (height // self.spatial_factor, width // self.spatial_factor)
        channels = self.latent_channels()
        if not self.is_video():
            return (channels, *size)
        return (channels, 1 + (frames - 1) // factor, *size)

    def is_video(self) -> bool:
        """Return whether latents have a time axis."""
        return self.temporal_factor > 1

    def latent_channels(self) -> int:
        """Channels of one latent, before packing."""
        return int(self.transformer.config.in_channels)  # type: ignore[union-attr, arg-type]

    def size_multiple(self) -> int:
        """Sides in pixels have to be multiples of this: the VAE's factor times the patch."""
        patch = getattr(self.transformer.config, "patch_size", 1)
        return self.spatial_factor * int(patch if isinstance(patch, int) else patch[-1])

    def largest_side(self) -> int | None:
        """The pixels that the network's table of positions covers; None: it has no table."""
        table = getattr(self.transformer.config, "pos_embed_max_size", None)
        return None if table is None else int(table) * self.size_multiple()

    def time_shift(
        self,
        latent_shape: Sequence[int],
        num_steps: int | None = None,  # noqa: ARG002
    ) -> float:
        """The shift of the family's scheduler: fixed, or growing with the number of tokens."""
        config = self.pipeline.scheduler.config
        if not getattr(config, "use_dynamic_shifting", False):
            # Multistep schedulers call it flow_shift.
            names = [n for n in ("shift", "flow_shift") if getattr(config, n, None)]
            return float(getattr(config, names[0])) if names else 1.0
        tokens = self.num_tokens(latent_shape)
        slope = (config.max_shift - config.base_shift) / (
            config.max_image_seq_len - config.base_image_seq_len
        )
        mu = config.base_shift + slope * (tokens - config.base_image_seq_len)
        # Their "linear" law has mu itself where the exponential one has exp(mu).
        linear = getattr(config, "time_shift_type", "exponential") == "linear"
        return float(mu) if linear else math.exp(mu)

    def num_tokens(self, latent_shape: Sequence[int]) -> int:
        """Tokens that the network makes of one sample's latents."""
        patch = self.size_multiple() // self.spatial_factor
        return math.prod(latent_shape[1:]) // patch**2
