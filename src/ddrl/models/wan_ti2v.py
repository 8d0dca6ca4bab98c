"""Wan2.2 TI2V-5B: text-to-video, and image-to-video by times that differ from token to token."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ddrl.errors import DataError
from ddrl.models.wan import Wan, WanCondition
from ddrl.records import Condition

__all__ = ["WanTI2V"]


class WanTI2V(Wan):
    """Wan2.2 TI2V-5B, with the first frame given or without.

    The first latent frame of a clip whose first frame is given is clean: its tokens have time 0. It
    is not part of the latents, which are those generated, and is put back before the VAE.

    Args:
        pipeline: loaded, on any device.
        given_frames: 1 for image-to-video, 0 for text-to-video; default what the pipeline's class
            says. May be set later: the two tasks share their weights, and the published model
            names the text-to-video class.

    Raises:
        DataError: no such number of given frames.
        WeightsError: the network is missing.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("WanPipeline", "WanImageToVideoPipeline")

    def __init__(self, pipeline: Any, *, given_frames: int | None = None) -> None:  # noqa: ANN401
        super().__init__(pipeline)
        has_image = type(pipeline).__name__ == "WanImageToVideoPipeline"
        self.given_frames = int(has_image) if given_frames is None else given_frames

    @property
    def allowed_given_frames(self) -> tuple[int, ...]:
        """None, or the first."""
        return (0, 1)

    @property
    def given_latents(self) -> int:
        """The first frame is a latent frame of its own."""
        return self.given_frames

    def _encode_given(self, first_frames: Tensor, frames: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The latents of the first frame, whatever the clip's length."""
        return {"given": super().encode_media(first_frames).to(self.device)}

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``.

        Raises:
            DataError: image-to-video without a first frame, or with one of another size.
        """
        assert isinstance(condition, WanCondition)
        clip = self._with_given(x_t, condition)
        given = clip.shape[2] - x_t.shape[2]
        _, *patch = self.transformer.config.patch_size  # type: ignore[union-attr, misc]
        tokens = math.prod(clip.shape[3:]) // math.prod(patch)
        times = t.new_zeros((len(clip), clip.shape[2]))
        times[:, given:] = t[:, None] * 1000
        return self._call(clip, times.repeat_interleave(tokens, dim=1), condition)[:, :, given:]

    def encode_media(self, media: Tensor, condition: Condition | None = None) -> Tensor:  # noqa: ARG002
        """Pixels (B, T, 3, H, W) in [0, 1] to the latents of the frames that are not given."""
        return super().encode_media(media)[:, :, self.given_latents :]

    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:
        """Latents to pixels in [0, 1], shape (B, T, 3, H, W), float32, the given frame included.

        Raises:
            DataError: image-to-video without a first frame, or with one of another size.
        """
        assert condition is None or isinstance(condition, WanCondition)
        return super().decode(self._with_given(latents, condition))

    def _with_given(self, latents: Tensor, condition: WanCondition | None) -> Tensor:
        if not self.given_frames:
            return latents
        given = None if condition is None else condition.given
        if given is None:
            raise DataError("Image-to-video needs a first frame.", hint="encode(.., first_frames=)")
        if given.shape[3:] != latents.shape[3:]:
            raise DataError(
                f"The first frames have {tuple(given.shape[3:])} latents along height and width, "
                f"not {tuple(latents.shape[3:])}.",
                hint="give frames of data.height and data.width",
            )
        return torch.cat([given.to(latents), latents], dim=2)

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        """(C, T, H, W), without the frames given.

        Raises:
            DataError: the family can't make media of this size, or nothing is left to generate.
        """
        channels, num, *size = super().latent_shape(height, width, frames)
        if num <= self.given_frames:
            raise DataError(
                f"{type(self).__name__} with the first frame given makes 1 + a multiple of "
                f"{self.temporal_factor} frames, at least {1 + self.temporal_factor}, "
                f"not {frames}.",
                hint="set data.frames to one of these",
            )
        return (channels, num - self.given_frames, *size)
