"""Z-Image: rectified flow on (C, H, W) latents, with the text and the image in one sequence."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.lora.names import LoRANames
from ddrl.records import Condition


@dataclass(frozen=True)
class ZImageCondition(Condition):
    """Encoded texts.

    Attributes:
        embeds: tokens, 0 after the text's end, shape (B, L, D); L is the same for all texts.
        length: how many tokens each text has, shape (B,).
    """

    on_cpu: ClassVar[frozenset[str]] = frozenset({"length"})
    embeds: Tensor
    length: Tensor


class ZImage(DiffusersModel):
    """Z-Image; the network takes lists, 1 - sigma as the time, and predicts x0 - noise.

    Its pipeline counts guidance from 0: a ``guidance_scale`` of w there is 1 + w here. The Turbo
    model is distilled for use without guidance.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("ZImagePipeline",)
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    lora_names: ClassVar[LoRANames] = LoRANames(comfyui="diffusion_model.", kohya="lora_unet_")

    def guidance_arguments(self, guidance: float) -> dict[str, object]:
        """The pipeline's guidance counts from 0."""
        return super().guidance_arguments(guidance) | {"guidance_scale": guidance - 1}

    def _encode(self, texts: list[str]) -> ZImageCondition:
        defaults = inspect.signature(self.pipeline.__call__).parameters
        limit = defaults["max_sequence_length"].default
        rows, _ = self.pipeline.encode_prompt(
            prompt=list(texts),  # which it writes its template into
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=limit,
        )
        embeds = rows[0].new_zeros(len(rows), limit, rows[0].shape[-1])
        for i, row in enumerate(rows):
            embeds[i, : len(row)] = row
        length = torch.tensor([len(row) for row in rows])
        return ZImageCondition(embeds, length)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``."""
        assert isinstance(condition, ZImageCondition)
        embeds = condition.embeds.to(self.dtype)
        lengths = condition.length.tolist()
        output = self.transformer(
            list(x_t.to(self.dtype).unsqueeze(2)),  # one image is a clip of one frame
            1 - t,
            [row[:length] for row, length in zip(embeds, lengths, strict=True)],
            return_dict=False,
        )
        images = cast(list[Tensor], output[0])
        return -torch.stack(images).squeeze(2)

    def _distilled(self) -> str:
        """Turbo has a time shift of 3, the base one of 6."""
        shift = self.pipeline.scheduler.config.shift
        return f"its time shift is {shift:g}, as of Turbo" if shift <= 3 else ""

    def size_multiple(self) -> int:
        """Sides in pixels have to be multiples of this: the VAE's factor times the patch."""
        patch: int = self.transformer.config.all_patch_size[0]  # type: ignore[union-attr, index, assignment]
        return self.spatial_factor * patch
