"""FLUX.2 [klein]: rectified flow on (128, H / 16, W / 16) latents, one token each; Qwen3.

It makes pictures from texts, and edits a source image where the data give one.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ddrl.models.adapter.packing import grid_positions
from ddrl.models.adapter.source_images import as_pictures, require_source
from ddrl.models.adapter.standardized import Standardized
from ddrl.records import Condition

DISTILLED_STEPS = 4  # of the released few-step networks
MAX_SOURCE_AREA = 1024 * 1024  # pixels; the pipeline scales larger sources down
SOURCE_TIME = 10  # of a source image's tokens, whose first coordinate is 0 for the result


@dataclass(frozen=True)
class Flux2KleinCondition(Condition):
    """Encoded texts.

    Attributes:
        embeds: tokens of three layers, shape (B, L, D); L is the same for all texts, and the
            network attends to the padding, as it was trained to.
        given: latents of the source images, shape (B, C, H, W); None where none is given.
    """

    embeds: Tensor
    given: Tensor | None = None


class Flux2Klein(Standardized):
    """FLUX.2 [klein]; the network predicts the velocity and takes sigma in [0, 1].

    The VAE's latents are folded 2x2 into channels and then normalized, by the statistics of a
    batch norm that has no other use. Noise is drawn there, so these are ddrl's latents.

    Attributes:
        num_steps: the family's time shift depends on the number of steps; this is the one that
            :meth:`time_shift` takes if it is told none: the pipeline's default, or that of the
            distilled networks.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("Flux2KleinPipeline",)
    takes_sources: ClassVar[bool] = True
    lora_targets: ClassVar[tuple[str, ...]] = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
        *("attn.to_qkv_mlp_proj", "attn.to_out"),  # blocks of one stream
    )

    def __init__(self, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is untyped
        super().__init__(pipeline)
        default = inspect.signature(pipeline.__call__).parameters["num_inference_steps"].default
        self.num_steps = DISTILLED_STEPS if pipeline.config.is_distilled else int(default)

    def _distilled(self) -> str:
        """The released few-step networks say so."""
        return "its is_distilled is true" if self.pipeline.config.is_distilled else ""

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent, along height and width: the VAE's factor times the folding's."""
        return super().spatial_factor * 2

    def normalize(self, latents: Tensor) -> Tensor:
        """The VAE's latents to those that the network sees: folded, (z - mean) / std."""
        return super().normalize(F.pixel_unshuffle(latents, 2))

    def denormalize(self, latents: Tensor) -> Tensor:
        """The inverse of :meth:`normalize`."""
        return F.pixel_shuffle(super().denormalize(latents), 2)

    def statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation per folded channel, of the VAE's batch norm."""
        statistics = (self.vae.bn.running_mean, self.vae.bn.running_var)
        mean, variance = (s.to(like).reshape(1, -1, 1, 1) for s in statistics)
        return mean, (variance + self.vae.config.batch_norm_eps).sqrt()

    def time_shift(self, latent_shape: Sequence[int], num_steps: int | None = None) -> float:
        """The shift that was fitted to the number of tokens and of steps.

        With up to 4300 tokens, mu is linear in the steps, through fits for 10 and 200 steps that
        are linear in the tokens; above, it is the fit for 200. Source: the FLUX.2 sampling code.

        Args:
            latent_shape: of one sample.
            num_steps: of the sampler; the attribute ``num_steps`` if it is not given.
        """
        if not self.pipeline.scheduler.config.use_dynamic_shifting:
            return super().time_shift(latent_shape, num_steps)
        tokens = self.num_tokens(latent_shape)
        at_10 = 8.73809524e-05 * tokens + 1.89833333
        at_200 = 0.00016927 * tokens + 0.45666666
        if tokens > 4300:
            return math.exp(at_200)
        steps = self.num_steps if num_steps is None else num_steps
        return math.exp(at_200 + (at_200 - at_10) / 190 * (steps - 200))

    def _encode(self, texts: list[str]) -> Flux2KleinCondition:
        defaults = inspect.signature(self.pipeline.__call__).parameters
        embeds, _ = self.pipeline.encode_prompt(
            prompt=texts,
            device=self.device,
            max_sequence_length=defaults["max_sequence_length"].default,
            text_encoder_out_layers=defaults["text_encoder_out_layers"].default,
        )
        return Flux2KleinCondition(embeds)

    @property
    def allowed_given_frames(self) -> tuple[int, ...]:
        """No source image, or one: the same weights make pictures from texts and edit."""
        return (0, 1)

    def _encode_given(self, first_frames: Tensor, frames: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The latents of the source image, which the pipeline scales down to a megapixel."""
        pixels = first_frames[:, 0]
        if math.prod(pixels.shape[-2:]) > MAX_SOURCE_AREA:
            pixels = torch.cat([self._smaller(row[None]) for row in pixels])
        return {"given": self.encode_media(pixels).to(self.device)}

    def _smaller(self, pixels: Tensor) -> Tensor:
        """One picture, shape (1, 3, H, W), at the size that the pipeline brings it to."""
        processor, multiple = self.pipeline.image_processor, self.size_multiple()
        picture = processor._resize_to_target_area(as_pictures(pixels)[0], MAX_SOURCE_AREA)
        width, height = (side // multiple * multiple for side in picture.size)
        made: Tensor = processor.preprocess(picture, height, width, resize_mode="crop")
        return (made + 1) / 2

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``.

        Raises:
            DataError: it is set to edit, and there is no source image.
        """
        assert isinstance(condition, Flux2KleinCondition)
        words = torch.arange(condition.embeds.shape[1], device=x_t.device)
        tokens, positions = _tokens(x_t.to(self.dtype), time=0)
        num = tokens.shape[1]
        if self.given_frames:
            given = require_source(condition.given).to(tokens)
            more, places = _tokens(given, time=SOURCE_TIME)
            tokens, positions = torch.cat([tokens, more], 1), torch.cat([positions, places])
        output = self.transformer(
            hidden_states=tokens,
            timestep=t,
            guidance=None,
            encoder_hidden_states=condition.embeds.to(self.dtype),
            txt_ids=F.pad(words[:, None], (3, 0)),  # (time, row, column, word)
            img_ids=positions,
            return_dict=False,
        )
        return cast(Tensor, output[0])[:, :num].mT.reshape(x_t.shape)


def _tokens(latents: Tensor, *, time: int) -> tuple[Tensor, Tensor]:
    """Latents (B, C, H, W) as tokens (B, H W, C), and their (time, row, column, word)."""
    grid = grid_positions(*latents.shape[-2:], device=latents.device)
    return latents.flatten(2).mT, F.pad(F.pad(grid, (1, 0), value=time), (0, 1))
