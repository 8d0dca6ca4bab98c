"""The architecture of the embedded model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddrl.errors import UsageError
from ddrl.models.tiny.networks import DiT, FiLMNet
from ddrl.models.tiny.text_networks import TextDiT
from ddrl.models.tiny.video_networks import VideoDiT


@dataclass(frozen=True)
class TinyConfig:
    """The architecture.

    Attributes:
        vocabulary: texts that the model knows, without the empty one; for clips, the words; for a
            model that spells, words and letters.
        height: height of the images in pixels.
        columns: width of the images in pixels.
        channels: 1 (grey) or 3.
        network: ``mlp`` (fast at 8x8) or ``dit``.
        width: width of the hidden layers.
        depth: number of blocks.
        heads: attention heads (``dit``).
        patch: patch size in pixels (``dit``).
        frames: frames of a clip; 1 = images. Clips need a ``dit``.
        patch_frames: frames of a patch.
        given_frames: number of first frames that are given and not generated.
        text_length: largest number of words and letters of a text, for images whose texts are
            spelled (``dit``); 0 = images know whole texts.
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
    text_length: int = 0

    def build(self) -> FiLMNet | DiT | TextDiT | VideoDiT:
        """Make the network with fresh weights, from torch's global generator."""
        if self.frames > 1:
            return self._build_video()
        shape = (self.channels, self.height, self.columns)
        num_labels = len(self.vocabulary) + 1
        if self.network == "mlp" and not self.text_length:
            return FiLMNet(
                num_pixels=self.channels * self.height * self.columns,
                num_labels=num_labels,
                width=self.width,
                depth=self.depth,
            )
        sides = [self.height % self.patch, self.columns % self.patch, self.width % self.heads]
        sides += [self.patch % 4, self.width % 16] if self.text_length else []
        if self.network != "dit" or any(sides):
            raise UsageError(
                f"A {self.network} of width {self.width}, {self.heads} heads and patch "
                f"{self.patch} does not fit images of {self.height}x{self.columns}.",
                hint="heads must divide the width, and patch the height and the width in pixels"
                if not self.text_length
                else 'texts are spelled by network = "dit" with a width of a multiple of 16 that '
                "heads divide, and with patch = 4 or 8",
            )
        if self.text_length:
            return TextDiT(
                shape=shape,
                num_tokens=num_labels,
                num_letters=sum(piece.startswith('"') for piece in self.vocabulary),
                length=self.text_length,
                width=self.width,
                depth=self.depth,
                heads=self.heads,
                patch=self.patch,
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
