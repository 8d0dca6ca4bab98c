"""Wan2.2 TI2V-5B: text-to-video, and image-to-video by times that differ from token to token."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from ddrl.models.adapter.first_latent import IMAGE, FirstLatent
from ddrl.models.families.wan.text_to_video import Wan, WanCondition
from ddrl.records import Condition


class WanTI2V(FirstLatent, Wan):
    """Wan2.2 TI2V-5B, with the first frame given or without.

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
        has_image = IMAGE in type(pipeline).__name__
        self.given_frames = int(has_image) if given_frames is None else given_frames

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``.

        Raises:
            DataError: image-to-video without a first frame, or with one of another size.
        """
        assert isinstance(condition, WanCondition)
        clip = self.with_given(x_t, condition)
        _, *patch = self.transformer.config.patch_size  # type: ignore[union-attr, misc]
        times = self.token_times(t * 1000, clip, patch)
        return self._call(clip, times, condition)[:, :, self.given_latents :]
