"""Clips whose first frame may be given: a latent frame of its own that stays clean, at time 0."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddrl.errors import DataError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.adapter.given_frames import like_latents
from ddrl.records import Condition

IMAGE = "ImageToVideo"
"""Part of the name of every pipeline that takes a picture."""


class FirstLatent(DiffusersModel):
    """A family of clips, with the first frame given or without.

    The first latent frame of a clip whose first frame is given is clean: its tokens have time 0. It
    is not part of the latents, which are those generated, and is put back before the VAE. The
    family's condition has a field ``given``: latents (B, C, 1, H, W), or None.
    """

    @property
    def allowed_given_frames(self) -> tuple[int, ...]:
        """None, or the first."""
        return (0, 1)

    @property
    def given_latents(self) -> int:
        """The first frame is a latent frame of its own."""
        return self.given_frames

    def caller(self) -> Any:  # noqa: ANN401 - diffusers is untyped
        """Text-to-video or image-to-video: two classes for the same weights."""
        kind, takes_image = type(self.pipeline), bool(self.given_frames)
        if (IMAGE in kind.__name__) == takes_image:
            return kind
        names = [name for name in self.pipelines if (IMAGE in name) == takes_image]
        return getattr(importlib.import_module("diffusers"), names[0])

    def _encode_given(self, first_frames: Tensor, frames: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The latents of the first frame, whatever the clip's length."""
        return {"given": super().encode_media(first_frames).to(self.device)}

    def encode_media(self, media: Tensor, condition: Condition | None = None) -> Tensor:  # noqa: ARG002
        """Pixels (B, T, 3, H, W) in [0, 1] to the latents of the frames that are not given."""
        return super().encode_media(media)[:, :, self.given_latents :]

    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:
        """Latents to pixels in [0, 1], shape (B, T, 3, H, W), float32, the given frame included.

        Raises:
            DataError: image-to-video without a first frame, or with one of another size.
        """
        return super().decode(self.with_given(latents, condition))

    def with_given(self, latents: Tensor, condition: Condition | None) -> Tensor:
        """The latents of whole clips.

        Raises:
            DataError: image-to-video without a first frame, or with one of another size.
        """
        if not self.given_frames:
            return latents
        given: Tensor | None = getattr(condition, "given", None)
        if given is None:
            raise DataError("Image-to-video needs a first frame.", hint="encode(.., first_frames=)")
        return torch.cat([like_latents(given, latents), latents], dim=2)

    def token_times(self, t: Tensor, clip: Tensor, patch: Sequence[int] = (1, 1)) -> Tensor:
        """Times of all tokens of whole clips: 0 where given, else ``t``, shape (B, tokens).

        Args:
            t: shape (B,).
            clip: of :meth:`with_given`, shape (B, C, T, H, W).
            patch: latents along height and width that make a token.
        """
        tokens = math.prod(clip.shape[3:]) // math.prod(patch)
        times = t[:, None].repeat(1, clip.shape[2])
        times[:, : self.given_latents] = 0
        return times.repeat_interleave(tokens, dim=1)

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

    def num_tokens(self, latent_shape: Sequence[int]) -> int:
        """Tokens that the network makes of one sample, the given frame's among them."""
        channels, num, *size = latent_shape
        return super().num_tokens((channels, num + self.given_latents, *size))
