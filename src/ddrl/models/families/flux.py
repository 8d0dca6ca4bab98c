"""FLUX.1 and FLUX.1 Kontext: rectified flow on (C, H, W) latents, packed 2x2; CLIP and T5."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.adapter.packing import grid_positions, pack, unpack
from ddrl.models.adapter.source_images import require_source
from ddrl.models.lora.names import LoRANames
from ddrl.records import Condition


@dataclass(frozen=True)
class FluxCondition(Condition):
    """Encoded texts.

    Attributes:
        embeds: T5 tokens, shape (B, L, D); L is the same for all texts, and the network attends
            to the padding, as it was trained to.
        pooled: the CLIP summary, shape (B, P).
        given: latents of the source images, shape (B, C, H, W); None where none is given.
    """

    embeds: Tensor
    pooled: Tensor
    given: Tensor | None = None


class Flux(DiffusersModel):
    """FLUX.1; the network predicts the velocity and takes sigma in [0, 1].

    Attributes:
        embedded_guidance: at first the pipeline's default; None for networks without a guidance
            embedding ([schnell]).
        max_text_tokens: texts are padded or cut to this many T5 tokens; the pipeline's default.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("FluxPipeline",)
    lora_targets: ClassVar[tuple[str, ...]] = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
        *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
    )
    lora_names: ClassVar[LoRANames] = LoRANames(comfyui="transformer.", kohya="lora_transformer_")

    def __init__(self, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is untyped
        super().__init__(pipeline)
        defaults = inspect.signature(pipeline.__call__).parameters
        if self.transformer.config.guidance_embeds:  # type: ignore[union-attr]
            self.embedded_guidance = float(defaults["guidance_scale"].default)
        self.max_text_tokens = int(defaults["max_sequence_length"].default)

    def _distilled(self) -> str:
        """[schnell] has no guidance embedding, and no shift of the times."""
        scheduler = self.pipeline.scheduler.config
        if self.transformer.config.guidance_embeds:  # type: ignore[union-attr]
            return ""
        is_shifted = scheduler.use_dynamic_shifting or scheduler.shift != 1
        return "" if is_shifted else "it has no guidance embedding and no time shift, as [schnell]"

    def latent_channels(self) -> int:
        """Channels of one latent, before packing."""
        return super().latent_channels() // 4

    def size_multiple(self) -> int:
        """Sides in pixels have to be multiples of this: the VAE's factor times the packing's."""
        return self.spatial_factor * 2

    def guidance_arguments(self, guidance: float) -> dict[str, object]:
        """Return both guidances: the number that the network is told, and that of two passes."""
        found: dict[str, object] = {"guidance_scale": self.embedded_guidance}
        more = {"true_cfg_scale": guidance, "negative_prompt": ""} if guidance != 1 else {}
        return found | more

    def _encode(self, texts: list[str]) -> FluxCondition:
        embeds, pooled, _ = self.pipeline.encode_prompt(
            prompt=texts,
            prompt_2=None,
            device=self.device,
            max_sequence_length=self.max_text_tokens,
        )
        return FluxCondition(embeds, pooled)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``."""
        assert isinstance(condition, FluxCondition)
        return self._call(x_t, t, condition, given=None)

    def _call(
        self, x_t: Tensor, t: Tensor, condition: FluxCondition, *, given: Tensor | None
    ) -> Tensor:
        """The network's output for the noisy tokens, with those of a source image after them."""
        height, width = x_t.shape[-2:]
        guidance = None
        if self.embedded_guidance is not None:
            guidance = t.new_full((len(t),), self.embedded_guidance)
        tokens, positions = pack(x_t.to(self.dtype)), _positions(x_t, image=0)
        num = tokens.shape[1]
        if given is not None:
            tokens = torch.cat([tokens, pack(given.to(tokens))], dim=1)
            positions = torch.cat([positions, _positions(given, image=1)])
        output = self.transformer(
            hidden_states=tokens,
            timestep=t,
            guidance=guidance,
            encoder_hidden_states=condition.embeds.to(self.dtype),
            pooled_projections=condition.pooled.to(self.dtype),
            txt_ids=positions.new_zeros(condition.embeds.shape[1], 3),
            img_ids=positions,
            return_dict=False,
        )
        return unpack(cast(Tensor, output[0])[:, :num], height, width)


def _positions(latents: Tensor, *, image: int) -> Tensor:
    """The network's (image, row, column) of every token, shape (H W / 4, 3); 0 is the result."""
    height, width = latents.shape[-2:]
    grid = grid_positions(height // 2, width // 2, device=latents.device)
    return F.pad(grid, (1, 0), value=image)


class FluxKontext(Flux):
    """FLUX.1 Kontext: the tokens of a source image follow the noisy ones, and stay clean."""

    pipelines: ClassVar[tuple[str, ...]] = ("FluxKontextPipeline",)
    takes_sources: ClassVar[bool] = True

    @property
    def allowed_given_frames(self) -> tuple[int, ...]:
        """One source image always."""
        return (1,)

    def _encode_given(self, first_frames: Tensor, frames: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The latents of the source image."""
        return {"given": self.encode_media(first_frames[:, 0]).to(self.device)}

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``.

        Raises:
            DataError: there is no source image.
        """
        assert isinstance(condition, FluxCondition)
        return self._call(x_t, t, condition, given=require_source(condition.given))

    def size_arguments(self, height: int, width: int) -> dict[str, object]:
        """The pipeline would choose another size near its own megapixel."""
        return {"max_area": height * width, "_auto_resize": False}
