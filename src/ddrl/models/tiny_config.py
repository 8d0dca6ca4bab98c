"""The architecture of the embedded model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddrl.errors import UsageError
from ddrl.models.networks import DiT, FiLMNet
from ddrl.models.video_networks import VideoDiT

__all__ = ["TinyConfig"]


@dataclass(frozen=True)
class TinyConfig:
    """The architecture.

    Attributes:
        vocabulary: the texts that the model knows, without the empty one; of clips, the words.
        height: of the images, in pixels.
        columns: their width in pixels.
        channels: 1 (grey) or 3.
        network: ``mlp`` (fast at 8x8) or ``dit``.
        width: of the hidden layers.
        depth: number of blocks.
        heads: attention heads (``dit``).
        patch: patch size in pixels (``dit``).
        frames: of a clip; 1 = images. Clips need a ``dit``.
        patch_frames: frames of a patch.
        given_frames: first frames that are given and not generated.
    """

    vocabulary: tuple[str, ...]
    height: int
    columns: int
    channels: int = 1
    network: Literal["mlp", "dit"] = "mlp"
    width: int = 256
    depth: int = 4
    heads: int = 4
    patch: int = 2
    frames: int = 1
    patch_frames: int = 1
    given_frames: int = 0

    def build(self) -> FiLMNet | DiT | VideoDiT:
        """Make the network with fresh weights, from torch's global generator."""
        if self.frames > 1:
            return self._build_video()
        shape = (self.channels, self.height, self.columns)
        num_labels = len(self.vocabulary) + 1
        if self.network == "mlp":
            return FiLMNet(
                num_pixels=self.channels * self.height * self.columns,
                num_labels=num_labels,
                width=self.width,
                depth=self.depth,
            )
        if self.height % self.patch or self.columns % self.patch or self.width % self.heads:
            raise UsageError(
                f"A DiT of width {self.width}, {self.heads} heads and patch {self.patch} does not "
                f"fit images of {self.height}x{self.columns}.",
                hint="heads must divide the width, and patch the height and the width in pixels",
            )
        return DiT(
            shape=shape,
            num_labels=num_labels,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            patch=self.patch,
        )

    def _build_video(self) -> VideoDiT:
        sides = (self.height % self.patch, self.columns % self.patch, self.width % self.heads)
        if self.network != "dit" or any(sides) or self.frames % self.patch_frames:
            raise UsageError(
                f"A {self.network} of width {self.width}, {self.heads} heads and patches of "
                f"{self.patch_frames} frames of {self.patch}x{self.patch} does not fit clips of "
                f"{self.frames} frames of {self.height}x{self.columns}.",
                hint='clips need network = "dit"; heads must divide the width, patch_frames the '
                "frames, and patch the height and the width in pixels",
            )
        return VideoDiT(
            shape=(self.channels, self.frames, self.height, self.columns),
            num_words=len(self.vocabulary) + 1,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            patch=(self.patch_frames, self.patch),
        )
