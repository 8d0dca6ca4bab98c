"""Wan2.1 and Wan2.2 A14B image-to-video: the first frame comes in extra channels."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ddrl.errors import DataError, WeightsError
from ddrl.models.families.wan.text_to_video import Wan, WanCondition
from ddrl.records import Condition


class WanI2V(Wan):
    """Wan image-to-video, Wan2.1 (with CLIP features of the frame) and Wan2.2 A14B (without).

    With the noisy latents the network sees 4 channels that say which frames are given, and the
    latents of the clip that shows the first frame and grey afterwards. It generates all frames,
    the first included, as in the pipeline: none is left out of the latents.

    Raises:
        WeightsError: the model also needs a last frame.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("WanImageToVideoPipeline",)
    # diffusers' loader puts zeros where an adapter has no projections of CLIP's tokens.
    lora_targets: ClassVar[tuple[str, ...]] = (
        *Wan.lora_targets,
        *("attn2.add_k_proj", "attn2.add_v_proj"),
    )

    def __init__(self, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is untyped
        super().__init__(pipeline)
        config = pipeline.transformer.config
        if config.pos_embed_seq_len is not None:
            raise WeightsError(
                "Wan models that take a first and a last frame are not supported.",
                hint="take a Wan image-to-video model that continues one frame",
            )
        self._sees_image = config.image_dim is not None
        if self._sees_image:
            if pipeline.image_encoder is None or pipeline.image_processor is None:
                raise WeightsError(
                    "The network takes CLIP features, but there is no CLIP encoder.",
                    hint="download the whole release, its image_encoder too",
                )
            pipeline.image_encoder.float()  # like the VAE

    @property
    def allowed_given_frames(self) -> tuple[int, ...]:
        """The first frame always; it is generated nevertheless."""
        return (1,)

    def _encode_given(self, first_frames: Tensor, frames: int) -> dict[str, Tensor]:
        """The VAE is causal, so that the condition of a shorter clip is its beginning."""
        self.latent_shape(first_frames.shape[3], first_frames.shape[4], frames)
        # One clip at a time, since a clip of grey frames is much larger than a first frame.
        given = torch.cat([self.encode_media(_then_grey(row, frames)) for row in first_frames])
        fields = {"given": given.to(self.device)}
        if self._sees_image:
            fields["image"] = self._image_features(first_frames[:, 0])
        return fields

    def _image_features(self, images: Tensor) -> Tensor:
        """CLIP tokens of pixels (U, 3, H, W), through the pipeline's own processing of images."""
        pictures = self.pipeline.video_processor.postprocess(
            images, output_type="pil", do_denormalize=[False] * len(images)
        )
        features: Tensor = self.pipeline.encode_image(pictures, self.device)
        return features

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``.

        Raises:
            DataError: no first frame was given, or one for shorter or otherwise sized clips.
        """
        assert isinstance(condition, WanCondition)
        if condition.given is None:
            raise DataError("Image-to-video needs a first frame.", hint="encode(.., first_frames=)")
        given = condition.given[:, :, : x_t.shape[2]]
        if given.shape != x_t.shape:
            raise DataError(
                f"The first frames were encoded for latents {tuple(condition.given.shape[1:])}, "
                f"not {tuple(x_t.shape[1:])}.",
                hint="encode(.., frames=) takes the number of frames of the longest clip",
            )
        is_given = x_t.new_zeros((len(x_t), self.temporal_factor, *x_t.shape[2:]))
        is_given[:, :, 0] = 1
        return self._call(torch.cat([x_t, is_given, given], dim=1), t * 1000, condition)


def _then_grey(frame: Tensor, frames: int) -> Tensor:
    """The clip (1, frames, 3, H, W) of a first frame (1, 3, H, W), which goes grey."""
    grey = frame.new_full((frames - 1, *frame.shape[1:]), 0.5)
    return torch.cat([frame, grey])[None]
