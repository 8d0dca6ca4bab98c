"""HunyuanVideo-1.5, text-to-video and image-to-video: rectified flow on (C, T, H, W) latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from ddrl.errors import DataError, WeightsError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.adapter.given_frames import like_latents
from ddrl.records import Condition


@dataclass(frozen=True)
class HunyuanVideo15Condition(Condition):
    """Encoded texts, and the first frame where the model takes one.

    Attributes:
        embeds: Qwen2.5-VL tokens, shape (B, 1000, D).
        mask: 1 for tokens, 0 for padding, shape (B, 1000).
        glyphs: ByT5 tokens of what the text has in quotation marks, shape (B, 256, E).
        glyph_mask: 1 for tokens, 0 for padding, shape (B, 256).
        given: latents of the first frame, shape (B, C, 1, H, W), or None.
        image: SigLIP tokens of the first frame, shape (B, L, F), or None.
    """

    embeds: Tensor
    mask: Tensor
    glyphs: Tensor
    glyph_mask: Tensor
    given: Tensor | None = None
    image: Tensor | None = None


class HunyuanVideo15(DiffusersModel):
    """HunyuanVideo-1.5 text-to-video; the network predicts the velocity and takes sigma x 1000.

    With the noisy latents it sees the channels in which image-to-video has the first frame; they
    are 0 here. There is no guidance embedding: distilled models are used without guidance.

    Raises:
        WeightsError: the network also takes the time of the next step (few-step models).
    """

    pipelines: ClassVar[tuple[str, ...]] = ("HunyuanVideo15Pipeline",)
    lora_targets: ClassVar[tuple[str, ...]] = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
    )
    dead_ends: ClassVar[tuple[str, ...]] = ("attn.to_add_out", "ff_context")

    def __init__(self, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is untyped
        super().__init__(pipeline)
        # One clip at a time: the attention mask of diffusers' VAE (0.42) fits no batch.
        self.vae.use_slicing = True
        if pipeline.transformer.config.use_meanflow:
            raise WeightsError(
                "HunyuanVideo-1.5 step-distilled models predict the average velocity up to the "
                "next step, which is not the velocity that is trained.",
                hint="use a model without step distillation",
            )

    def guidance_lines(self, guidance: float) -> list[str]:
        """Guidance is a part of the pipeline."""
        return [f"pipeline.guider = pipeline.guider.new(guidance_scale={guidance!r})"]

    def _encode(self, texts: list[str]) -> HunyuanVideo15Condition:
        encoded = self.pipeline.encode_prompt(
            prompt=texts, batch_size=len(texts), device=self.device, dtype=self.dtype
        )
        return HunyuanVideo15Condition(*encoded)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``.

        Raises:
            DataError: image-to-video without a first frame, or with one of another size.
        """
        assert isinstance(condition, HunyuanVideo15Condition)
        seen, image = self._first_frame(x_t, condition)
        output = self.transformer(
            hidden_states=torch.cat([x_t, seen], dim=1).to(self.dtype),
            # The network computes the time's embedding in the time's dtype.
            timestep=(t * 1000).to(self.dtype),
            encoder_hidden_states=condition.embeds.to(self.dtype),
            encoder_attention_mask=condition.mask.to(self.dtype),
            encoder_hidden_states_2=condition.glyphs.to(self.dtype),
            encoder_attention_mask_2=condition.glyph_mask.to(self.dtype),
            image_embeds=image.to(self.dtype),
            return_dict=False,
        )
        return cast(Tensor, output[0])

    def _first_frame(
        self, x_t: Tensor, condition: HunyuanVideo15Condition
    ) -> tuple[Tensor, Tensor]:
        """Return the network's view of the first frame: C + 1 channels of (T, H, W), and tokens."""
        num, width = self.pipeline.vision_num_semantic_tokens, self.pipeline.vision_states_dim
        seen = torch.zeros_like(torch.cat([x_t, x_t[:, :1]], dim=1))
        return seen, x_t.new_zeros((len(condition), num, width))

    def latent_channels(self) -> int:
        """Return the VAE's channels: the network also takes the first frame and a mask."""
        return int(self.vae.config.latent_channels)


class HunyuanVideo15I2V(HunyuanVideo15):
    """HunyuanVideo-1.5 image-to-video.

    The network generates all frames, the first included, as in the pipeline: none is left out of
    the latents.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("HunyuanVideo15ImageToVideoPipeline",)

    @property
    def allowed_given_frames(self) -> tuple[int, ...]:
        """The first frame always."""
        return (1,)

    def encode(
        self, texts: Sequence[str], *, first_frames: Tensor | None = None, frames: int = 81
    ) -> HunyuanVideo15Condition:
        """Encode texts and first frames, without gradient.

        Raises:
            DataError: see :meth:`DiffusersModel.encode`.
        """
        condition = super().encode(texts, first_frames=first_frames, frames=frames)
        assert isinstance(condition, HunyuanVideo15Condition)
        return condition

    def _encode_given(self, first_frames: Tensor, frames: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The latents and the SigLIP tokens of the first frame, whatever the clip's length."""
        return {
            "given": self.encode_media(first_frames).to(self.device),
            "image": self._image_tokens(first_frames[:, 0]),
        }

    def _image_tokens(self, images: Tensor) -> Tensor:
        """SigLIP tokens of pixels (U, 3, H, W), through the pipeline's own processing."""
        pictures = self.pipeline.video_processor.postprocess(
            images, output_type="pil", do_denormalize=[False] * len(images)
        )
        rows = [self.pipeline.encode_image(p, 1, self.device, self.dtype) for p in pictures]
        return torch.cat(rows)

    def _first_frame(
        self, x_t: Tensor, condition: HunyuanVideo15Condition
    ) -> tuple[Tensor, Tensor]:
        given, image = condition.given, condition.image
        if given is None or image is None:
            raise DataError("Image-to-video needs a first frame.", hint="encode(.., first_frames=)")
        seen, _ = super()._first_frame(x_t, condition)
        seen[:, :-1, :1] = like_latents(given, seen)
        seen[:, -1, 0] = 1
        return seen, image
