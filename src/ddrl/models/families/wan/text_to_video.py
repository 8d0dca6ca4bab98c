"""Wan2.1 and Wan2.2 text-to-video: rectified flow on (C, T, H, W) latents, one or two experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ddrl.errors import WeightsError
from ddrl.models.adapter.standardized import Standardized
from ddrl.models.families.wan.experts import WanExperts
from ddrl.models.lora.names import LoRANames
from ddrl.records import Condition


@dataclass(frozen=True)
class WanCondition(Condition):
    """Encoded texts, and what is given of the clips.

    Attributes:
        embeds: UMT5 tokens, zero behind each text's end, shape (B, 512, D).
        given: latents of what is given, shape (B, C, T', H, W), or None.
        image: CLIP tokens of the first frame, shape (B, L, E), or None.
    """

    embeds: Tensor
    given: Tensor | None = None
    image: Tensor | None = None


class Wan(Standardized):
    """Wan text-to-video; the network predicts the velocity and takes sigma x 1000.

    Wan2.2 A14B has two of them, see :class:`~ddrl.models.families.wan.experts.WanExperts`. The VAE
    is kept in float32, as in Wan's release.

    Raises:
        WeightsError: an expert is missing.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("WanPipeline",)
    lora_targets: ClassVar[tuple[str, ...]] = (
        *("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"),
        *("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"),
        *("ffn.net.0.proj", "ffn.net.2"),
    )
    lora_names: ClassVar[LoRANames] = LoRANames(
        comfyui="diffusion_model.",
        kohya="lora_unet_",
        renames=(
            (r"\battn1\.", "self_attn."),
            (r"\battn2\.", "cross_attn."),
            (r"\bto_out\.0$", "o"),
            (r"\bto_([qkv])$", r"\1"),
            (r"\badd_([kv])_proj$", r"\1_img"),
            (r"\bffn\.net\.0\.proj$", "ffn.0"),
            (r"\bffn\.net\.2$", "ffn.2"),
        ),
    )

    def __init__(self, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is untyped
        self._network = _network(pipeline)
        pipeline.vae.float()
        super().__init__(pipeline)

    @property
    def transformer(self) -> nn.Module:
        """The network to train, or both experts."""
        return self._network

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the network's weights, without the few that always stay in float32."""
        dtype: torch.dtype = self.pipeline.transformer.dtype
        return dtype

    def frozen_parts(self) -> list[nn.Module]:
        """Every network of the pipeline but those trained."""
        trained = set(self.transformer.modules())
        return [part for part in super().frozen_parts() if part not in trained]

    def encode(
        self, texts: Sequence[str], *, first_frames: Tensor | None = None, frames: int = 81
    ) -> WanCondition:
        """Encode texts, and the first frame where the family takes one, without gradient.

        Raises:
            DataError: see :meth:`DiffusersModel.encode`.
        """
        condition = super().encode(texts, first_frames=first_frames, frames=frames)
        assert isinstance(condition, WanCondition)
        return condition

    def _encode(self, texts: list[str]) -> WanCondition:
        # The network attends to the padding, so the length is the pipeline's whatever the texts.
        embeds, _ = self.pipeline.encode_prompt(
            prompt=texts,
            do_classifier_free_guidance=False,
            max_sequence_length=512,
            device=self.device,
        )
        return WanCondition(embeds)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``."""
        assert isinstance(condition, WanCondition)
        return self._call(x_t, t * 1000, condition)

    def _call(self, x: Tensor, timestep: Tensor, condition: WanCondition) -> Tensor:
        image = condition.image
        output = self.transformer(
            hidden_states=x.to(self.dtype),
            timestep=timestep,
            encoder_hidden_states=condition.embeds.to(self.dtype),
            encoder_hidden_states_image=None if image is None else image.to(self.dtype),
            return_dict=False,
        )
        return cast(Tensor, output[0])

    def latent_channels(self) -> int:
        """Return the VAE's channels: the network may take more than it makes."""
        return int(self.vae.config.z_dim)


def _network(pipeline: Any) -> nn.Module:  # noqa: ANN401
    """The pipeline's network, or its experts as one.

    Raises:
        WeightsError: an expert is missing.
    """
    ratio = pipeline.config.boundary_ratio
    experts = (
        [pipeline.transformer] if ratio is None else [pipeline.transformer, pipeline.transformer_2]
    )
    if None in experts:
        raise WeightsError(
            f"The {type(pipeline).__name__} has only one of its two networks.",
            hint="with a boundary_ratio it needs a transformer and a transformer_2; give the whole "
            "model",
        )
    if ratio is None:
        network: nn.Module = experts[0]
        return network
    boundary = float(ratio) * pipeline.scheduler.config.num_train_timesteps
    return WanExperts(*experts, boundary=boundary)
