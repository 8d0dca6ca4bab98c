"""SANA and SANA 1.5: rectified flow on (C, H, W) latents, one language model for the text."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.text_lengths import lengths_of, without_padding
from ddrl.records import Condition


@dataclass(frozen=True)
class SanaCondition(Condition):
    """Encoded texts.

    Attributes:
        embeds: tokens, shape (B, L, D); L is the same for all texts.
        mask: which tokens count, shape (B, L).
        length: how many tokens each text has, shape (B,).
    """

    on_cpu: ClassVar[frozenset[str]] = frozenset({"length"})
    embeds: Tensor
    mask: Tensor
    length: Tensor


class Sana(DiffusersModel):
    """SANA; the network predicts the velocity and takes sigma x 1000 x its ``timestep_scale``.

    The pipeline puts a long instruction ("complex human instruction") in front of each prompt, but
    not in front of the negative one. So a text is encoded with it, and the empty text, which is
    the unconditional condition, without.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("SanaPipeline",)
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")

    def _distilled(self) -> str:
        """SANA-Sprint is told the guidance."""
        is_told = getattr(self.transformer.config, "guidance_embeds", False)
        return "its network is told the guidance, as SANA-Sprint" if is_told else ""

    def guidance_arguments(self, guidance: float) -> dict[str, object]:
        """Sizes are taken as they are asked for."""
        return super().guidance_arguments(guidance) | {"use_resolution_binning": False}

    def _encode(self, texts: list[str]) -> SanaCondition:
        rows: dict[int, tuple[Tensor, Tensor]] = {}
        defaults = inspect.signature(self.pipeline.__call__).parameters
        instruction = defaults["complex_human_instruction"].default
        for empty in (False, True):
            index = [i for i, text in enumerate(texts) if (not text) == empty]
            if index:
                embeds, mask, _, _ = self.pipeline.encode_prompt(
                    prompt=[texts[i] for i in index],
                    do_classifier_free_guidance=False,
                    device=self.device,
                    max_sequence_length=defaults["max_sequence_length"].default,
                    complex_human_instruction=None if empty else instruction,
                )
                rows.update(zip(index, zip(embeds, mask, strict=True), strict=True))
        ordered = [rows[i] for i in range(len(texts))]
        embeds, mask = (torch.stack(parts) for parts in zip(*ordered, strict=True))
        return SanaCondition(embeds, mask, lengths_of(mask))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``."""
        assert isinstance(condition, SanaCondition)
        config = self.transformer.config
        embeds, mask = without_padding(
            self.transformer, condition.length.tolist(), condition.embeds, condition.mask
        )
        output = self.transformer(
            hidden_states=x_t.to(self.dtype),
            timestep=t * 1000 * config.timestep_scale,  # type: ignore[union-attr, operator]
            encoder_hidden_states=embeds.to(self.dtype),
            encoder_attention_mask=mask,
            return_dict=False,
        )
        velocity = cast(Tensor, output[0])
        return velocity[:, : x_t.shape[1]]  # some networks also predict a variance, unused
