"""Qwen-Image: rectified flow on (C, H, W) latents, packed 2x2 for the network; Qwen2.5-VL."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import ClassVar, TypeVar, cast

from torch import Tensor
from torch.nn import functional as F

from ddrl.models.adapter.packing import pack, unpack
from ddrl.models.adapter.standardized import Standardized
from ddrl.models.lora.names import LoRANames
from ddrl.models.text_lengths import lengths_of, without_padding
from ddrl.records import Condition

ConditionT = TypeVar("ConditionT", bound="QwenImageCondition")


@dataclass(frozen=True)
class QwenImageCondition(Condition):
    """Encoded texts, as long as the longest of those that were encoded together.

    Attributes:
        embeds: tokens, shape (B, L, D), 0 after a text's end.
        mask: which tokens count, bool, shape (B, L).
        length: how many tokens each text has, shape (B,).
    """

    on_cpu: ClassVar[frozenset[str]] = frozenset({"length"})
    embeds: Tensor
    mask: Tensor
    length: Tensor

    def padded(self: ConditionT, length: int) -> ConditionT:
        """The same texts with L of at least ``length``."""
        more = max(0, length - self.embeds.shape[1])
        embeds, mask = F.pad(self.embeds, (0, 0, 0, more)), F.pad(self.mask, (0, more))
        return type(self)(embeds, mask, self.length)

    def where(self: ConditionT, mask: Tensor, other: ConditionT) -> ConditionT:
        """Return ``other`` where ``mask`` is true, else this condition; lengths may differ."""
        mine, theirs = self.padded(other.embeds.shape[1]), other.padded(self.embeds.shape[1])
        return super(QwenImageCondition, mine).where(mask, theirs)


class QwenImage(Standardized):
    """Qwen-Image; the network predicts the velocity and takes sigma in [0, 1].

    Its VAE is one of videos, used for clips of one frame. Its pipeline rescales a guided velocity
    to the norm of the conditional one, per token; ddrl's guidance does not.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("QwenImagePipeline",)
    lora_targets: ClassVar[tuple[str, ...]] = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
        *("img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2"),
    )
    lora_names: ClassVar[LoRANames] = LoRANames(comfyui="diffusion_model.", kohya="lora_unet_")
    dead_ends: ClassVar[tuple[str, ...]] = ("attn.to_add_out", "txt_mlp")

    def _distilled(self) -> str:
        """Lightning has one time shift for all sizes, where the base's grows with the size."""
        config = self.pipeline.scheduler.config
        is_fixed = config.use_dynamic_shifting and config.base_shift == config.max_shift
        return "its time shift is the same for all sizes, as of Lightning" if is_fixed else ""

    def latent_channels(self) -> int:
        """Channels of one latent, before packing."""
        return super().latent_channels() // 4

    def size_multiple(self) -> int:
        """Sides in pixels have to be multiples of this: the VAE's factor times the packing's."""
        return self.spatial_factor * 2

    def encode_media(self, media: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [0, 1] to latents (B, C, H, W), float32."""
        return super().encode_media(media[:, None])[:, :, 0]

    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:
        """Latents to pixels (B, 3, H, W) in [0, 1], float32."""
        return super().decode(latents[:, :, None], condition)

    def guidance_lines(self, guidance: float) -> list[str]:
        """A word about guided velocities."""
        word = "# The pipeline rescales guided velocities, which ddrl does not: samples differ."
        return [word] if guidance != 1 else []

    def guidance_arguments(self, guidance: float) -> dict[str, object]:
        """Guidance of two passes has another name here."""
        more = {"negative_prompt": ""} if guidance != 1 else {}
        return {"true_cfg_scale": guidance, **more}

    def _encode(self, texts: list[str]) -> QwenImageCondition:
        defaults = inspect.signature(self.pipeline.__call__).parameters
        embeds, mask = self.pipeline.encode_prompt(
            prompt=texts,
            device=self.device,
            max_sequence_length=defaults["max_sequence_length"].default,
        )
        if mask is None:  # every token counts
            mask = embeds.new_ones(embeds.shape[:2])
        return QwenImageCondition(embeds, mask.bool(), lengths_of(mask))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``."""
        assert isinstance(condition, QwenImageCondition)
        height, width = x_t.shape[-2:]
        embeds, mask = without_padding(
            self.transformer, condition.length.tolist(), condition.embeds, condition.mask
        )
        output = self.transformer(
            hidden_states=pack(x_t.to(self.dtype)),
            timestep=t,
            encoder_hidden_states=embeds.to(self.dtype),
            encoder_hidden_states_mask=mask,
            img_shapes=[[(1, height // 2, width // 2)]] * len(x_t),
            return_dict=False,
        )
        return unpack(cast(Tensor, output[0]), height, width)
