"""How sharp a picture is: a reward in a package of its own."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.card import RewardCard

__all__ = ["Sharpness"]


class Sharpness:
    """The mean difference of brightness between neighbouring pixels, times ``scale``.

    Args:
        scale: multiplies it.
        over_frames: from the frames of a clip to the clip: their ``mean``, or the ``worst``.
    """

    card: ClassVar[RewardCard] = RewardCard(
        rewards="sharp pictures",
        range="[0, 1] times `scale`; 1 is a chessboard of black and white pixels",
        prompt="none",
        hacks="noise is sharper than any picture: train on it only beside another reward",
        cost="nothing",
    )

    def __init__(
        self, *, scale: float = 1.0, over_frames: Literal["mean", "worst"] = "mean"
    ) -> None:
        if scale <= 0:
            raise ValueError("scale must be above 0")
        self._scale, self._over_frames = scale, over_frames

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:  # noqa: ARG002
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,).

        Raises:
            RewardError: the pictures have no neighbouring pixels.
        """
        if min(media.shape[-2:]) < 2:
            raise RewardError(
                f"Reward 'sharpness' needs pictures of at least 2 x 2 pixels, not "
                f"{media.shape[-2]} x {media.shape[-1]}."
            )
        brightness = media.float().mean(-3)
        rows = brightness.diff(dim=-2).abs().mean((-2, -1))
        columns = brightness.diff(dim=-1).abs().mean((-2, -1))
        value = self._scale * (rows + columns) / 2
        if media.ndim == 4:
            return value
        return value.mean(1) if self._over_frames == "mean" else value.amin(1)
