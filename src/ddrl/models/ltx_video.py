"""LTX-Video: rectified flow on (C, T, H, W) latents, one token per latent pixel."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from ddrl.models.lora_names import LoRANames
from ddrl.models.packing import from_vae
from ddrl.models.standardized import Standardized
from ddrl.records import Condition

__all__ = ["LTXCondition", "LTXVideo"]


@dataclass(frozen=True)
class LTXCondition(Condition):
    """Encoded texts.

    Attributes:
        embeds: T5 tokens, shape (B, L, D); L is the same for all texts.
        mask: which tokens count, bool, shape (B, L).
    """

    embeds: Tensor
    mask: Tensor


class LTXVideo(Standardized):
    """LTX-Video, text to video; the network predicts the velocity and takes sigma x 1000.

    The scheduler of its pipeline may stretch the time grid so that it ends at a ``shift_terminal``
    before the last step; that is a choice of steps and not a shift, and is left out here.

    Attributes:
        frame_rate: frames per second, which positions in time are measured by.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("LTXPipeline",)
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    lora_names: ClassVar[LoRANames] = LoRANames(comfyui="diffusion_model.")

    def __init__(self, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is untyped
        super().__init__(pipeline)
        self._defaults = inspect.signature(pipeline.__call__).parameters
        self.frame_rate = float(self._defaults["frame_rate"].default)

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent, along height and width."""
        return int(self.pipeline.vae_spatial_compression_ratio)

    @property
    def temporal_factor(self) -> int:
        """Frames per latent frame after the first."""
        return int(self.pipeline.vae_temporal_compression_ratio)

    def _encode(self, texts: list[str]) -> LTXCondition:
        embeds, mask, _, _ = self.pipeline.encode_prompt(
            prompt=texts,
            do_classifier_free_guidance=False,
            max_sequence_length=self._defaults["max_sequence_length"].default,
            device=self.device,
        )
        return LTXCondition(embeds, mask)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``."""
        assert isinstance(condition, LTXCondition)
        frames, height, width = x_t.shape[2:]
        space = self.spatial_factor
        output = self.transformer(
            hidden_states=x_t.to(self.dtype).flatten(2).transpose(1, 2),
            encoder_hidden_states=condition.embeds.to(self.dtype),
            timestep=t * 1000,
            encoder_attention_mask=condition.mask,
            num_frames=frames,
            height=height,
            width=width,
            rope_interpolation_scale=(self.temporal_factor / self.frame_rate, space, space),
            return_dict=False,
        )
        return cast(Tensor, output[0]).transpose(1, 2).reshape(x_t.shape)

    @torch.no_grad()
    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:  # noqa: ARG002
        """Latents to pixels (B, T, 3, H, W) in [0, 1], float32; of one frame (B, 3, H, W).

        Some decoders are told how noisy the latents are: not at all, the pipeline's default. Some
        draw noise of their own, here always the same, so that decoding is a function.
        """
        self.bring("media")
        raw = self.denormalize(latents.float()).to(self.vae.device, self.vae.dtype)
        level = raw.new_zeros(len(raw)) if self.vae.config.timestep_conditioning else None
        with torch.random.fork_rng(devices=[raw.device] if raw.is_cuda else []):
            torch.manual_seed(0)
            pixels: Tensor = self.vae.decode(raw, level, return_dict=False)[0]
        return (from_vae(pixels.float()) / 2 + 0.5).clamp(0, 1)

    def statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation per channel, which are buffers, and the VAE's scale."""
        buffers = (self.vae.latents_mean, self.vae.latents_std)
        mean, std = (s.to(like).reshape(-1, 1, 1, 1) for s in buffers)
        return mean, std / float(self.vae.config.scaling_factor)
