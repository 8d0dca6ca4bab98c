"""Cosmos-Predict2.5: rectified flow on clips, of which the first frames may be given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from ddrl.errors import DataError, UsageError
from ddrl.models.adapter.given_frames import like_latents
from ddrl.models.adapter.standardized import Standardized
from ddrl.records import Condition

GIVEN_TIME = 1e-4  # what the network is told of frames that are given: almost no noise
KARRAS_RHO = 7.0


@dataclass(frozen=True)
class CosmosCondition(Condition):
    """Encoded texts, and the latents of the frames that are given.

    Attributes:
        embeds: normalized states of all layers of the text encoder, shape (B, 512, D).
        given: clean latents of the first frames, shape (B, C, G, H, W), or None.
    """

    embeds: Tensor
    given: Tensor | None = None


class Cosmos(Standardized):
    """Cosmos-Predict2.5; the network predicts the velocity and takes sigma itself, per frame.

    One network makes clips from text, from a first frame and from the beginning of a clip. Latent
    frames that are given are clean, have a time of 1e-4 and a mask of 1; they are not part of the
    latents, which are those generated, and are put back before the VAE.

    The pipeline's guidance is c + w (c - u): its ``guidance_scale`` of w is 1 + w here.

    Args:
        pipeline: loaded, on any device.
        given_frames: frames of a clip that are given: 0 for text-to-video, 1 for image-to-video, 5
            for video-to-video (that is 0, 1 or 2 latent frames). May be set later.

    Raises:
        DataError: no such number of given frames.
        UsageError: torchvision, which the network calls, is not installed.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("Cosmos2_5_PredictBasePipeline",)
    lora_targets: ClassVar[tuple[str, ...]] = (
        *("to_q", "to_k", "to_v", "to_out.0"),
        *("ff.net.0.proj", "ff.net.2"),
    )
    follows: ClassVar[tuple[str, ...]] = ("use_karras_sigmas",)
    """Switches of the scheduler that :meth:`time_shift` makes up for."""

    def __init__(self, pipeline: Any, *, given_frames: int = 0) -> None:  # noqa: ANN401
        super().__init__(pipeline)
        self.given_frames = given_frames
        _require_torchvision(pipeline.transformer)

    @property
    def allowed_given_frames(self) -> tuple[int, ...]:
        """None, the first, or as many as make two latent frames: 0, 1 or 5."""
        return (0, 1, 1 + self.temporal_factor)

    @property
    def given_latents(self) -> int:
        """Latent frames of the frames that are given: 0, 1 or 2."""
        return 0 if not self.given_frames else 1 + (self.given_frames - 1) // self.temporal_factor

    def encode(
        self, texts: Sequence[str], *, first_frames: Tensor | None = None, frames: int = 81
    ) -> CosmosCondition:
        """Encode texts and given frames, without gradient.

        Raises:
            DataError: see :meth:`DiffusersModel.encode`.
        """
        condition = super().encode(texts, first_frames=first_frames, frames=frames)
        assert isinstance(condition, CosmosCondition)
        return condition

    def _encode_given(self, first_frames: Tensor, frames: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The latents of the given frames, whatever the clip's length."""
        return {"given": super().encode_media(first_frames).to(self.device)}

    def guidance_arguments(self, guidance: float) -> dict[str, object]:
        """The pipeline's guidance counts from 0; it has a negative prompt of its own."""
        return {"guidance_scale": guidance - 1, "negative_prompt": ""}

    def _encode(self, texts: list[str]) -> CosmosCondition:
        # One by one: the encoder also makes logits, 512 times its vocabulary for each text.
        rows = [
            self.pipeline.encode_prompt(
                prompt=[text], do_classifier_free_guidance=False, device=self.device
            )[0]
            for text in texts
        ]
        return CosmosCondition(torch.cat(rows))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``.

        Raises:
            DataError: frames are to be given and are not, or are of another size.
        """
        assert isinstance(condition, CosmosCondition)
        clip = self._with_given(x_t, condition)
        given = clip.shape[2] - x_t.shape[2]
        times = t.reshape(-1, 1, 1, 1, 1).repeat(1, 1, clip.shape[2], 1, 1)
        times[:, :, :given] = GIVEN_TIME
        mask = torch.zeros_like(clip[:, :1], dtype=self.dtype)
        mask[:, :, :given] = 1
        output = self.transformer(
            hidden_states=clip.to(self.dtype),
            timestep=times,
            encoder_hidden_states=condition.embeds.to(self.dtype),
            condition_mask=mask,
            padding_mask=mask.new_zeros((1, 1, *clip.shape[3:])),
            return_dict=False,
        )
        return cast(Tensor, output[0])[:, :, given:]

    def encode_media(self, media: Tensor, condition: Condition | None = None) -> Tensor:  # noqa: ARG002
        """Pixels (B, T, 3, H, W) in [0, 1] to the latents of the frames that are not given."""
        return super().encode_media(media)[:, :, self.given_latents :]

    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:
        """Latents to pixels in [0, 1], shape (B, T, 3, H, W), float32, given frames included.

        Raises:
            DataError: frames are to be given and are not, or are of another size.
        """
        assert condition is None or isinstance(condition, CosmosCondition)
        return super().decode(self._with_given(latents, condition))

    def _with_given(self, latents: Tensor, condition: CosmosCondition | None) -> Tensor:
        given = None if condition is None else condition.given
        found = 0 if given is None else given.shape[2]
        if found != self.given_latents:
            raise DataError(
                f"The model is set to take {self.given_latents} given latent frames, not {found}.",
                hint="encode(.., first_frames=)",
            )
        if given is None:
            return latents
        return torch.cat([like_latents(given, latents, what="given"), latents], dim=2)

    def latent_channels(self) -> int:
        """Return the VAE's channels: the network takes one more, the mask of given frames."""
        return int(self.vae.config.z_dim)

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        """(C, T, H, W), without the frames given; ``frames`` counts these too.

        Raises:
            DataError: the family can't make media of this size, or nothing is left to generate.
        """
        channels, num, *size = super().latent_shape(height, width, frames)
        if num <= self.given_latents:
            raise DataError(
                f"With {self.given_frames} frames given, clips have 1 + a multiple of "
                f"{self.temporal_factor} frames, at least "
                f"{1 + self.temporal_factor * self.given_latents}, not {frames}.",
                hint="set data.frames to one of these",
            )
        return (channels, num - self.given_latents, *size)

    def time_shift(self, latent_shape: Sequence[int], num_steps: int | None = None) -> float:
        """The shift whose grid has the middle of the scheduler's.

        The released scheduler spaces the odds t / (1 - t) as eq. (5) of EDM does, from 200 to
        0.01: no shift does, and the one with the same middle is 7.2.

        Source: arXiv 2206.00364.
        Departs: the ends of the scheduler's grid are finer than the shifted grid's.
        """
        config = self.pipeline.scheduler.config
        names = ("sigma_min", "sigma_max")
        ends = [float(getattr(config, name, None) or 0) for name in names]
        if not getattr(config, "use_karras_sigmas", False) or 0 in ends:
            return super().time_shift(latent_shape, num_steps)
        roots = [end ** (1 / KARRAS_RHO) for end in ends]
        return float((sum(roots) / 2) ** KARRAS_RHO)


def _require_torchvision(transformer: Any) -> None:  # noqa: ANN401
    """Find out now, not in the middle of the first step, that the network can't run.

    Raises:
        UsageError: torchvision is not installed.
    """
    from diffusers.models.transformers import transformer_cosmos

    if transformer.config.concat_padding_mask and not hasattr(transformer_cosmos, "transforms"):
        raise UsageError("Cosmos-Predict2.5 needs torchvision.", hint="pip install torchvision")
