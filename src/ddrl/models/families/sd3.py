"""Stable Diffusion 3 and 3.5: rectified flow on (C, H, W) latents, three text encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor

from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.lora.names import LoRANames
from ddrl.records import Condition


@dataclass(frozen=True)
class SD3Condition(Condition):
    """Encoded texts.

    Attributes:
        embeds: CLIP and T5 tokens, shape (B, L, D).
        pooled: CLIP summaries, shape (B, P).
    """

    embeds: Tensor
    pooled: Tensor


class SD3(DiffusersModel):
    """SD3 and SD3.5; the network predicts the velocity and takes sigma x 1000."""

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusion3Pipeline",)
    lora_targets: ClassVar[tuple[str, ...]] = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
    )
    lora_names: ClassVar[LoRANames] = LoRANames(comfyui="transformer.", kohya="lora_transformer_")

    def _encode(self, texts: list[str]) -> SD3Condition:
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            prompt=texts,
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=False,
            device=self.device,
        )
        return SD3Condition(embeds, pooled)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``."""
        assert isinstance(condition, SD3Condition)
        output = self.transformer(
            hidden_states=x_t.to(self.dtype),
            timestep=t * 1000,
            encoder_hidden_states=condition.embeds.to(self.dtype),
            pooled_projections=condition.pooled.to(self.dtype),
            return_dict=False,
        )
        return cast(Tensor, output[0])
