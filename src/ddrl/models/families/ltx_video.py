"""LTX-Video: rectified flow on (C, T, H, W) latents, one token per latent pixel."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from ddrl.models.adapter.first_latent import IMAGE, FirstLatent
from ddrl.models.adapter.packing import from_vae
from ddrl.models.adapter.standardized import Standardized
from ddrl.models.lora.names import LoRANames
from ddrl.models.text_lengths import lengths_of, without_padding
from ddrl.records import Condition


@dataclass(frozen=True)
class LTXCondition(Condition):
    """Encoded texts.

    Attributes:
        embeds: T5 tokens, shape (B, L, D); L is the same for all texts.
        mask: which tokens count, bool, shape (B, L).
        length: how many tokens each text has, shape (B,).
        given: latents of the first frame, shape (B, C, 1, H, W); None where none is given.
    """

    on_cpu: ClassVar[frozenset[str]] = frozenset({"length"})
    embeds: Tensor
    mask: Tensor
    length: Tensor
    given: Tensor | None = None


class LTXVideo(FirstLatent, Standardized):
    """LTX-Video, with the first frame given or without.

    The network predicts the velocity and takes sigma x 1000. The decoder looks at later frames,
    too, so that the given frame is shown as the clip's latents make it.

    The scheduler of its pipeline may stretch the time grid so that it ends at a ``shift_terminal``
    before the last step; that is a choice of steps and not a shift, and is left out here.

    Departs: the pipeline draws the first frame's latents from the VAE's posterior; here its mode is
    taken, as of all media.

    Args:
        pipeline: loaded, on any device.
        given_frames: 1 for image-to-video, 0 for text-to-video; default what the pipeline's class
            says. May be set later: the two tasks share their weights.

    Attributes:
        frame_rate: frames per second, which positions in time are measured by.

    Raises:
        DataError: no such number of given frames.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("LTXPipeline", "LTXImageToVideoPipeline")
    shows_given: ClassVar[bool] = False
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    lora_names: ClassVar[LoRANames] = LoRANames(comfyui="diffusion_model.")

    def __init__(self, pipeline: Any, *, given_frames: int | None = None) -> None:  # noqa: ANN401
        super().__init__(pipeline)
        has_image = IMAGE in type(pipeline).__name__
        self.given_frames = int(has_image) if given_frames is None else given_frames
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
        return LTXCondition(embeds, mask, lengths_of(mask))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``.

        Raises:
            DataError: image-to-video without a first frame, or with one of another size.
        """
        assert isinstance(condition, LTXCondition)
        clip = self.with_given(x_t, condition)
        frames, height, width = clip.shape[2:]
        space = self.spatial_factor
        embeds, mask = without_padding(
            self.transformer, condition.length.tolist(), condition.embeds, condition.mask
        )
        output = self.transformer(
            hidden_states=clip.to(self.dtype).flatten(2).transpose(1, 2),
            encoder_hidden_states=embeds.to(self.dtype),
            timestep=self.times(t * 1000, clip),
            encoder_attention_mask=mask,
            num_frames=frames,
            height=height,
            width=width,
            rope_interpolation_scale=(self.temporal_factor / self.frame_rate, space, space),
            return_dict=False,
        )
        return self.unpacked(cast(Tensor, output[0]), clip)

    def times(self, t: Tensor, clip: Tensor) -> Tensor:
        """Return the time of each clip where all its tokens have one, else of each token."""
        return self.token_times(t, clip) if self.given_latents else t

    def unpacked(self, tokens: Tensor, clip: Tensor) -> Tensor:
        """Tokens of whole clips as latents without the given frame."""
        return tokens.transpose(1, 2).reshape(clip.shape)[:, :, self.given_latents :]

    @torch.no_grad()
    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:
        """Latents to pixels (B, T, 3, H, W) in [0, 1], float32; of one frame (B, 3, H, W).

        Some decoders are told how noisy the latents are: not at all, the pipeline's default. Some
        draw noise of their own, here always the same, so that decoding is a function.

        Raises:
            DataError: image-to-video without a first frame, or with one of another size.
        """
        latents = self.with_given(latents, condition)
        self.bring("media")
        raw = self.denormalize(latents.float()).to(self.vae.device, self.vae.dtype)
        # Here rather than in the VAE, whose own slices (diffusers 0.42) forget the level's.
        slices = torch.split(raw, 1) if self.vae.use_slicing else (raw,)
        pixels = torch.cat([self._decoded(rows) for rows in slices])
        return (from_vae(pixels.float()) / 2 + 0.5).clamp(0, 1)

    def _decoded(self, raw: Tensor) -> Tensor:
        """What the VAE makes of its own latents."""
        level = raw.new_zeros(len(raw)) if self.vae.config.timestep_conditioning else None
        with torch.random.fork_rng(devices=[raw.device] if raw.is_cuda else []):
            torch.manual_seed(0)
            pixels: Tensor = self.vae.decode(raw, level, return_dict=False)[0]
        return pixels

    def statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation per channel, which are buffers, and the VAE's scale."""
        buffers = (self.vae.latents_mean, self.vae.latents_std)
        mean, std = (s.to(like).reshape(-1, 1, 1, 1) for s in buffers)
        return mean, std / float(self.vae.config.scaling_factor)
