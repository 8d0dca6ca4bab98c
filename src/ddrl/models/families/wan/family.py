"""Chooses the Wan adapter of a pipeline: its class alone does not say."""

from __future__ import annotations

from typing import Any

from ddrl.models.families.wan.image_to_video import WanI2V
from ddrl.models.families.wan.text_to_video import Wan
from ddrl.models.families.wan.ti2v import WanTI2V


def open_wan(pipeline: Any) -> Wan:  # noqa: ANN401 - diffusers is untyped
    """Wrap a ``WanPipeline`` or a ``WanImageToVideoPipeline``.

    Args:
        pipeline: loaded, on any device.

    Raises:
        WeightsError: a network of the model is missing, or the model takes a last frame.
    """
    if pipeline.config.expand_timesteps:
        return WanTI2V(pipeline)
    if type(pipeline).__name__ in WanI2V.pipelines:
        return WanI2V(pipeline)
    return Wan(pipeline)
